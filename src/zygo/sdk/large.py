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
    """A payload in a file that is gone with this object."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size

    def __len__(self) -> int:
        return self.size

    def chunks(self) -> Iterator[bytes]:
        """Its content, from the beginning each time."""
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            yield chunk


Payload = Union[bytes, Stored]


class Spool:
    """What pickle writes to: memory, and a file once that is too much."""

    def __init__(self) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._size = 0
        self._on_disk = False

    def write(self, data: Any) -> int:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self._size += size
        if not self._on_disk and self._size > frames.INLINE_BYTES:
            kept, self._file, self._on_disk = self._file, _unnamed_file(), True
            assert isinstance(kept, io.BytesIO)
            self._file.write(kept.getbuffer())
        self._file.write(data)
        return size

    def restart(self) -> None:
        """Forget what was written."""
        self.__init__()  # type: ignore[misc]

    def payload(self) -> Payload:
        """What was written."""
        if isinstance(self._file, io.BytesIO):
            return self._file.getvalue()
        self._file.flush()
        return Stored(self._file, self._size)


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


def _unnamed_file() -> IO[bytes]:
    # /tmp is often memory, which is what a file is to spare.
    directory = "/var/tmp" if os.access("/var/tmp", os.W_OK) and "TMPDIR" not in os.environ else None
    return tempfile.TemporaryFile(dir=directory, prefix="zygo-")
