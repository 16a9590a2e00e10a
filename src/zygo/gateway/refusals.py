"""What the gateway itself answers: short, plain, with the request's id, and nothing internal unless under `serve`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Refusal:
    """`status` and a `text` for the caller; `details` (a traceback, an exit reason) are for a developer's eyes."""

    status: int
    text: str
    details: str | None = None
    retry_after: int | None = None
    location: bytes = b""


def wants_json(accept: bytes) -> bool:
    """Whether the client prefers JSON: it names it, and is not a browser."""
    accept = accept.lower()
    return b"application/json" in accept and b"text/html" not in accept


def render(
    refusal: Refusal,
    *,
    request_id: str,
    accept: bytes,
    head_only: bool,
    keep_alive: bool,
    modern: bool,
    extra: bytes = b"",
) -> bytes:
    """The whole answer as bytes. `extra` are further header lines."""
    if wants_json(accept):
        said: dict[str, object] = {"status": refusal.status, "message": refusal.text, "request_id": request_id}
        if refusal.details:
            said["details"] = refusal.details
        kind, body = b"application/json", json.dumps({"error": said}).encode() + b"\n"
    else:
        kind = b"text/plain; charset=utf-8"
        text = f"{refusal.text}\n"
        if refusal.details:
            text += f"\n{refusal.details.rstrip()}\n\n"
        body = f"{text}request id: {request_id}\n".encode("utf-8", "replace")
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (refusal.status, _reason(refusal.status)),
        b"Content-Type: %b\r\nContent-Length: %d\r\n" % (kind, len(body)),
        b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n",
        b"X-Request-Id: %b\r\n" % request_id.encode(),
        extra,
    ]
    if refusal.retry_after is not None:
        lines.append(b"Retry-After: %d\r\n" % refusal.retry_after)
    if refusal.location:
        lines.append(b"Location: %b\r\n" % refusal.location)
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif not modern:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    if not head_only:
        lines.append(body)
    return b"".join(lines)


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Refused"
