"""A container's response head, checked and written anew. What a container says is untrusted input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zygo.gateway.checks import HOP_BY_HOP, Header

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ANSWER_HEAD = 256 * 1024
"""Bytes of a response's head that are read before the container is given up."""

CHUNKED = -1
UNTIL_CLOSE = -2

_SPECIAL = HOP_BY_HOP | {b"content-length", b"x-request-id", b"http2-settings"}


class BadAnswer(Exception):
    """The container's answer is not one that can be passed on."""


class Answer:
    """A checked head. `length` is the body's in bytes, CHUNKED or UNTIL_CLOSE; `lines` are headers ready to send.

    `declared` is the Content-Length to tell the client, which HEAD and 304 have without a body. `reusable`: the
    connection may carry another request afterwards.
    """

    __slots__ = ("declared", "length", "lines", "reason", "reusable", "status", "upgrade")

    def __init__(self, status: int, reason: bytes) -> None:
        self.status = status
        self.reason = reason
        self.length = UNTIL_CLOSE
        self.declared: bytes | None = None
        self.lines: list[bytes] = []
        self.reusable = True
        self.upgrade = b""


def read_answer(status: int, reason: bytes, version: str, headers: Sequence[Header], *, head_only: bool) -> Answer:
    """The checked head of an answer; `head_only` for one to HEAD. Raises BadAnswer."""
    if not 100 <= status <= 999 or version not in ("1.1", "1.0"):
        raise BadAnswer(f"the container answered with status {status} over HTTP/{version}")
    answer = Answer(status, reason)
    lines = answer.lines
    for name, value in headers:
        lower = name.lower()
        if lower not in _SPECIAL:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif lower == b"content-length":
            if answer.length != UNTIL_CLOSE or not value.strip().isdigit():
                raise BadAnswer("the container's answer has no clear length")
            answer.declared = value.strip()
            answer.length = int(value)
        else:
            _hop_by_hop(answer, lower, value)
    if version == "1.0":
        answer.reusable = False
    if head_only or status < 200 or status in (204, 304):
        answer.length = 0
        if status < 200 or status == 204:
            answer.declared = None
    elif answer.length == UNTIL_CLOSE:
        answer.reusable = False
    return answer


def _hop_by_hop(answer: Answer, lower: bytes, value: bytes) -> None:
    if lower == b"transfer-encoding":
        if answer.length != UNTIL_CLOSE or value.strip().lower() != b"chunked":
            raise BadAnswer(
                f"the container's answer has Transfer-Encoding {value.decode('latin-1')!r}, not just chunked"
            )
        answer.length = CHUNKED
    elif lower == b"connection":
        if b"close" in value.lower():
            answer.reusable = False
    elif lower == b"upgrade":
        answer.upgrade = value.strip()


def trailer_lines(trailers: Sequence[Header]) -> bytes:
    """Trailers that may be passed on, as lines: none that frames, routes or belongs to one hop."""
    return b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in trailers
        if name.lower() not in _SPECIAL and name.lower() not in (b"host", b"set-cookie", b"authorization")
    )
