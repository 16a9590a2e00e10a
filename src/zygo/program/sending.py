"""Sends an evaluated app to the server: what it lacks of the files, then the app itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zygo import errors
from zygo.program import progress
from zygo.program.sources import put, send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zygo.program.sources import Upload
    from zygo.sdk.client import Client

UPLOAD_ROUNDS = 3
"""The server may find that content was swept between the question and the revision; that often means a fault."""


async def publish(
    client: Client,
    upload: Upload,
    known: set[str],
    ask: Callable[[], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Send what the server lacks of `upload`, then do `ask`, which gives the last event of the request; that event:
    `published`, `unchanged` or `failed`.

    `known` is what the server has for sure, and grows. Raises LoadError when a file has changed since it was listed,
    ConnectionError when the server is gone.
    """
    await send(client, upload, known)
    for _ in range(UPLOAD_ROUNDS):
        last = await ask()
        if last.get("type") != "missing":
            return last
        await put(client, upload, [str(item) for item in last.get("sha256", [])])
    raise errors.InternalFailure("the server keeps asking for content that it was sent")


def failure(event: dict[str, Any], after: str = "") -> errors.Error:
    """The error of a publication that failed; `after` is said after the reason."""
    text = f"{progress.reason(event)}\n{after}" if after else progress.reason(event)
    # The message of a failed build holds what the tool said already.
    return errors.from_json(
        {"kind": event.get("kind", ""), "message": text, "traceback": str(event.get("traceback") or "")}
    )
