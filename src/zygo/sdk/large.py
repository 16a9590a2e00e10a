"""Values too large to be held twice: pickled into a file that has no name, and read from where they come.

A payload is `bytes`, or `Stored` when it is longer than frames.INLINE_BYTES.
"""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, Callable, Union

from zygo.sdk import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 256 * 1024
"""Bytes that are moved at once."""


class Stored:
    """A payload in a file without a name, which is gone with this object. It owns the descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __del__(self) -> None:
        os.close(self._fd)

    def chunks(self) -> Iterator[bytes]:
        """Its content, from the beginning each time."""
        at = 0
        while chunk := os.pread(self._fd, CHUNK, at):
            yield chunk
            at += len(chunk)

    def open(self) -> IO[bytes]:
        """A file at its beginning, for the caller to close. One at a time."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.fdopen(os.dup(self._fd), "rb")


Payload = Union[bytes, Stored]


class Spool:
    """What pickle writes to: memory, and a file once that is too much."""

    def __init__(self) -> None:
        self._memory = io.BytesIO()
        self._stored: Stored | None = None
        self._fd = -1

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._stored is None:
            if self._memory.tell() + view.nbytes <= frames.INLINE_BYTES:
                return self._memory.write(view)
            self._fd = _unnamed_file()
            self._stored = Stored(self._fd, 0)
            kept, self._memory = self._memory, io.BytesIO()
            self._append(self._stored, kept.getbuffer())
        self._append(self._stored, view)
        return view.nbytes

    def _append(self, stored: Stored, view: memoryview) -> None:
        stored.size += view.nbytes
        while view.nbytes:
            view = view[os.write(self._fd, view) :]

    def restart(self) -> None:
        """Forget what was written."""
        self._memory, self._stored = io.BytesIO(), None

    def payload(self) -> Payload:
        """What was written. Nothing more is written afterwards."""
        stored, self._stored = self._stored, None
        return self._memory.getvalue() if stored is None else stored


class Parts:
    """What pickle writes to in a container: the frames of the answer, so that a large value is never there twice.

    `send(data)` takes each piece of CHUNK bytes once the value is known to be large, and may wait; `forget()` says that they
    are void. The rest is `tail`.
    """

    def __init__(self, send: Callable[[bytes], None], forget: Callable[[], None]) -> None:
        self._send = send
        self._forget = forget
        self._buffer = io.BytesIO()
        self._begun = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = view.nbytes
        if size + self._buffer.tell() <= (CHUNK if self._begun else frames.INLINE_BYTES):
            self._buffer.write(view)
            return size
        self._begun = True
        kept = self._buffer.getvalue()
        self._buffer = io.BytesIO()
        for whole in (memoryview(kept), view):
            for at in range(0, whole.nbytes, CHUNK):
                self._send(bytes(whole[at : at + CHUNK]))
        return size

    def restart(self) -> None:
        if self._begun:
            self._forget()
        self._buffer, self._begun = io.BytesIO(), False

    @property
    def tail(self) -> bytes:
        """What was not sent."""
        return self._buffer.getvalue()


def _unnamed_file() -> int:
    # /tmp is often memory, which is what a file is to spare.
    directory = "/var/tmp" if os.access("/var/tmp", os.W_OK) and "TMPDIR" not in os.environ else None
    fd, path = tempfile.mkstemp(prefix="zygo-", dir=directory)
    os.unlink(path)
    return fd
