"""A large input, read by pickle while it is still coming: the container never holds it beside the value it becomes.

The loop feeds, whoever unpickles takes, in another thread; each waits for the other.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

ROOM_BYTES = 1024 * 1024
"""Bytes that are held before no more are taken from the connection."""


class Incoming:
    """A file that pickle reads (read, readinto, readline), of bytes that `feed` brings."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()
        self._room: asyncio.Future[None] | None = None

    # -- the loop's side --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """More came."""
        with self._changed:
            if data and not self._closed:
                self._chunks.append(memoryview(data))
                self._size += len(data)
                self._changed.notify()

    def end(self) -> None:
        """Nothing more comes, whether it was complete or not."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    async def room(self) -> None:
        """Wait until more may be fed."""
        while self._size > ROOM_BYTES and not self._closed:
            self._room = self._loop.create_future()
            if self._size > ROOM_BYTES and not self._closed:
                await self._room

    # -- the reader's side ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """No more is wanted: what still comes is dropped."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._size = 0
        self._loop.call_soon_threadsafe(self._make_room)

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer`, unless the end comes first."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            chunk = self._take(len(view) - done)
            if chunk is None:
                break
            view[done : done + len(chunk)] = chunk
            done += len(chunk)
        return done

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end."""
        parts: list[memoryview] = []
        while size:
            chunk = self._take(size if size > 0 else ROOM_BYTES)
            if chunk is None:
                break
            parts.append(chunk)
            size -= len(chunk) if size > 0 else 0
        return b"".join(parts)

    def readline(self) -> bytes:
        """Bytes up to a line's end; only the oldest protocols have lines."""
        parts: list[bytes] = []
        while not parts or parts[-1] != b"\n":
            byte = self.read(1)
            if not byte:
                break
            parts.append(byte)
        return b"".join(parts)

    def _take(self, most: int) -> memoryview | None:
        with self._changed:
            while not self._chunks:
                if self._ended or self._closed:
                    return None
                self._changed.wait()
            chunk = self._chunks.popleft()
            if len(chunk) > most:
                self._chunks.appendleft(chunk[most:])
                chunk = chunk[:most]
            full = self._size > ROOM_BYTES
            self._size -= len(chunk)
            relieved = full and self._size <= ROOM_BYTES
        if relieved:
            self._loop.call_soon_threadsafe(self._make_room)
        return chunk

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
