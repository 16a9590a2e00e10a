"""Writes the apps' log files, in one thread for all: the event loop never waits for a disk.

    <folder>/log.jsonl -> log.1.jsonl -> log.2.jsonl -> gone

A file is rotated before the line that would make it larger than `max_bytes`. A disk that is full or does not keep up costs
lines and nothing else: it is said once in the server's log, and in the app's when it can be written again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import shutil
import stat
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from zygo.server.log_lines import Line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger("zygo.logs")

NAMES = ("log.jsonl", "log.1.jsonl", "log.2.jsonl")
"""The files of an app, newest first."""

MAX_WAITING_BYTES = 32 * 2**20
"""What may wait for a disk that does not keep up, over all apps."""


class Snapshot:
    """The files of an app as they were at one moment, newest first: later lines and rotations do not change it.

    Owns the descriptors; `close` may be called twice, and from another thread than the one that reads.
    """

    def __init__(self, files: list[tuple[int, int]]) -> None:
        self._fds = [fd for fd, _ in files]
        self.sizes = [size for _, size in files]
        """The bytes of each file that belong to the snapshot."""
        self._lock = threading.Lock()

    def read(self, index: int, size: int, at: int) -> bytes:
        """Bytes of file number `index`. Raises OSError, also when it was closed meanwhile."""
        with self._lock:
            if not self._fds:
                raise OSError(errno.EBADF, "the snapshot is closed")
            return os.pread(self._fds[index], size, at)

    def changed(self, index: int) -> float:
        """When file number `index` was last written, in seconds since 1970. Raises OSError like `read`."""
        with self._lock:
            if not self._fds:
                raise OSError(errno.EBADF, "the snapshot is closed")
            return os.fstat(self._fds[index]).st_mtime

    def close(self) -> None:
        with self._lock:
            fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


class LogWriter:
    """The thread. Its methods are called on the event loop and never wait."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._files: dict[Path, _File] = {}
        self._waiting = 0
        self._lock = threading.Lock()
        self._dropped: dict[Path, int] = {}
        self._thread = threading.Thread(target=self._run, name="app logs", daemon=True)
        self._thread.start()

    def write(self, folder: Path, lines: list[bytes]) -> None:
        """Append `lines` to the log in `folder`, which is made when it is not there."""
        size = sum(map(len, lines))
        with self._lock:
            full = self._waiting + size > MAX_WAITING_BYTES
            if full:
                self._dropped[folder] = self._dropped.get(folder, 0) + len(lines)
            else:
                self._waiting += size
        if not full:
            self._jobs.put(lambda: self._write(folder, lines, size))

    def snapshot(self, folder: Path) -> Future[Snapshot]:
        """The files in `folder`, with everything that was written before this call. Cancelled when nobody waits any more."""
        future: Future[Snapshot] = Future()

        def take() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(open_snapshot(folder))

        self._jobs.put(take)
        return future

    def forget(self, folder: Path) -> None:
        """Close its file; a later write opens it again."""

        def close() -> None:
            if (file := self._files.pop(folder, None)) is not None:
                file.close()

        self._jobs.put(close)

    def remove(self, folder: Path) -> None:
        """Remove the log in `folder`, with all that was written before this call."""

        def remove() -> None:
            if (file := self._files.pop(folder, None)) is not None:
                file.close()
            shutil.rmtree(folder, ignore_errors=True)

        self._jobs.put(remove)

    def close(self, seconds: float = 5.0) -> bool:
        """Write what waits, for `seconds` at most; whether all of it was. May be called twice."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("the writer of the apps' logs failed")
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, folder: Path, lines: list[bytes], size: int) -> None:
        with self._lock:
            self._waiting -= size
            dropped = self._dropped.pop(folder, 0)
        file = self._files.get(folder)
        if file is None:
            file = self._files[folder] = _File(folder, self._max_bytes)
        file.lost += dropped
        file.append(lines)


class _File:
    """The newest file of one app, in the writer's thread."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.lost = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._fd = -1
        self._size = 0
        self._failed = False

    def append(self, lines: list[bytes]) -> None:
        """Write `lines`, and before them how many were lost, if any were."""
        told = self.lost
        if told:
            text = f"{told:,} lines before this one were not kept: the disk was full or did not keep up"
            lines = [Line(time.time(), "", "", "system", text).encoded(), *lines]
        done = 0
        try:
            while done < len(lines):
                done += self._append_some(lines, done)
        except OSError as error:
            self.lost = len(lines) - done + (told - 1 if told and not done else 0)
            self._give_up(error)
            return
        if self._failed:
            log.info("the log in %s is written again; %d lines were lost", self._folder, told)
        self._failed, self.lost = False, 0

    def _append_some(self, lines: list[bytes], start: int) -> int:
        """Write the lines from `start` that the current file has room for, one at least; how many. Raises OSError."""
        self._open()
        if self._size and self._size + len(lines[start]) > self._max_bytes:
            self._rotate()
        end, size = start, self._size
        while end < len(lines) and (end == start or size + len(lines[end]) <= self._max_bytes):
            size += len(lines[end])
            end += 1
        data = memoryview(b"".join(lines[start:end]))
        while data:
            data = data[os.write(self._fd, data) :]
        self._size = size
        return end - start

    def _open(self) -> None:
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return
            self.close()  # somebody removed the file
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._folder / NAMES[0], os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":  # a crash left the beginning of a line
            os.write(self._fd, b"\n")
            self._size += 1

    def _rotate(self) -> None:
        self.close()
        for older, newer in ((NAMES[2], NAMES[1]), (NAMES[1], NAMES[0])):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._folder / newer, self._folder / older)
        self._open()

    def _give_up(self, error: OSError) -> None:
        if not self._failed:
            log.error("the log in %s cannot be written, lines are lost until it can: %s", self._folder, error)
        self._failed = True
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # half a line is worth nothing
                os.ftruncate(self._fd, self._size)
        self.close()

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


def open_snapshot(folder: Path) -> Snapshot:
    """The files in `folder` as they are now; none when there is no such folder."""
    files = []
    for name in NAMES:
        with contextlib.suppress(OSError):
            fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                files.append((fd, status.st_size))
            else:
                os.close(fd)
    return Snapshot(files)
