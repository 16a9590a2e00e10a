"""What a call's bodies are made of: frames, so that one request may carry several inputs and one answer several outputs.

    kind (1 byte)  index (4)  microseconds (4)  length (8)  payload

`index` is the input's place in its request, `microseconds` what the function took for it. The payload is pickled and passed
through unread: only the container reads inputs, only the caller outputs.
"""

from __future__ import annotations

import struct

CALL = b"c"
"""To the server: a call that is to be kept, as JSON; its inputs follow."""

INPUT = b"i"
"""To the container: pickled (args, kwargs)."""

PART = b"p"
"""A piece of the payload of the frame of the same index that comes next."""

VALUE = b"v"
"""The input's result, or one item of a generator."""

FAILURE = b"e"
"""The input failed: a record of `zygo.sdk.remote`."""

TIMEOUT = b"t"
FATAL = b"f"
"""Failures whose kind whoever passes the record on must know unread: the function's time was up; no attempt can succeed."""

FAILURES = (FAILURE, TIMEOUT, FATAL)

SAID = b"s"
"""In place of a result, the server's own word: JSON of an error, see zygo.errors.to_json."""

FORGET = b"x"
"""The parts that came so far are void."""

RETURNED = b"r"
"""The input was not begun, since one before it takes long: it is to be sent again."""

END = b"z"
"""The generator has ended; its payload is empty."""

HEAD = struct.Struct("!cIIQ")
_LONGEST = 0xFFFFFFFF

INLINE_BYTES = 2 * 2**20
"""A payload above this goes by parts, and through a file where it would be held whole."""


def frame(kind: bytes, index: int, payload: bytes = b"", microseconds: int = 0) -> bytes:
    """One frame."""
    return HEAD.pack(kind, index, min(microseconds, _LONGEST), len(payload)) + payload


class Reader:
    """Takes bytes as they come and gives the frames that are complete: (kind, index, microseconds, payload)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, int, int, bytes]]:
        """The frames that `data` completed."""
        buffer = self._buffer
        buffer += data
        found = []
        at, size = 0, len(buffer)
        while size - at >= HEAD.size:
            kind, index, microseconds, length = HEAD.unpack_from(buffer, at)
            end = at + HEAD.size + length
            if end > size:
                break
            found.append((kind, index, microseconds, bytes(memoryview(buffer)[at + HEAD.size : end])))
            at = end
        if at:
            del buffer[:at]
        return found

    @property
    def incomplete(self) -> bool:
        """Whether a frame has begun that is not complete."""
        return bool(self._buffer)
