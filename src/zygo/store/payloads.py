"""Large arguments and results as files by hash, beside the database: a row of many megabytes would hold up every other.

A file is on disk, and so is its name, before the row that names it is written. One that no row names is removed by `sweep`, but
not while it is young: its row may be on its way. Everything here blocks; callers are in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INLINE_BYTES = 64 * 1024
"""What is larger goes to a file."""

YOUNG_SECONDS = 3600.0
"""No row takes as long from its file to its commit."""


class PayloadFiles:
    """The files in `folder`, which is made with the first one. Only their owner can read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep `data`; returns its SHA-256 once it is on disk. Raises OSError."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with self._lock:
            with contextlib.suppress(FileNotFoundError):
                # It is there: young again, so that a sweep leaves it alone.
                os.utime(path)
                return sha256
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = path.with_name(f".{sha256}.{threading.get_ident()}")
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        with self._lock:
            staged.replace(path)
        for folder in (path.parent, self.folder):
            _sync(folder)
        return sha256

    def get(self, sha256: str) -> bytes:
        """What was kept under that hash. Raises OSError."""
        return self._path(sha256).read_bytes()

    def sweep(self, named: set[str], now: float | None = None) -> int:
        """Remove the files that are not `named` and not young. Returns how many."""
        removed = 0
        border = (time.time() if now is None else now) - YOUNG_SECONDS
        for path in list(self.folder.glob("??/*")):
            if path.name in named:
                continue
            with self._lock, contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < border:
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
