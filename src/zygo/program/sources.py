"""The content of the user's files: hashed once per state, listed for the server, sent when it lacks them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zygo import errors
from zygo.model import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zygo.loader import Evaluated
    from zygo.model import AppSpec
    from zygo.sdk.client import Client

_SETTLED_NS = 50_000_000
"""A file that changed less than 50 ms before it was read may change again within the same tick of its clock, unseen."""

_READS = 5
"""Of a file that is written all the time."""


@dataclass(frozen=True)
class _Entry:
    state: tuple[int, int, int, int]
    sha256: str
    settled: bool


class Digests:
    """SHA-256 of files, read again only when size, times or inode say so."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def of(self, path: str) -> tuple[str, int]:
        """Hash and size in bytes of the file's content now. Raises OSError."""
        entry = self._entry(path)
        return entry.sha256, entry.state[0]

    def look(self, path: str) -> str:
        """The hash; "" for what is absent or not a readable file."""
        return self.seen(path).sha256

    def seen(self, path: str) -> Seen:
        """What the file is now. Two that are equal, before and after, say that it did not change in between."""
        try:
            entry = self._entry(path)
        except OSError:
            return ABSENT
        return Seen(entry.state, entry.sha256)

    def _entry(self, path: str) -> _Entry:
        entry = self._entries.get(path)
        state = _state(os.stat(path))
        if entry is None or entry.state != state or not entry.settled:
            # Several threads look at the same time: each returns what it saw itself.
            entry = self._entries[path] = _read_entry(path)
        return entry


@dataclass(frozen=True)
class Seen:
    """A file at one moment: size in bytes, times in ns, inode; and the hash of its content, "" when it is absent."""

    state: tuple[int, int, int, int]
    sha256: str

    @property
    def empty(self) -> bool:
        """Whether it is there and has no content."""
        return self.sha256 == EMPTY


EMPTY = hashlib.sha256(b"").hexdigest()
ABSENT = Seen((0, 0, 0, 0), "")


def is_being_written(path: str) -> bool:
    """Whether some process has the file open for writing; false where the system does not tell.

    Linux grants a lease for reading only when nobody has. It is given back at once.
    """
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # A writer that comes in this very moment is held up until it is given back, and that is said by a signal:
            # SIGIO would end the process, this one is ignored by it.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        finally:
            os.close(fd)
    return False


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _read_entry(path: str) -> _Entry:
    """State and hash of one moment, if the file has one: it may be written while it is read."""
    with open(path, "rb") as file:
        for _ in range(_READS):
            read_at = time.time_ns()
            state = _state(os.fstat(file.fileno()))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if _state(os.fstat(file.fileno())) == state:
                return _Entry(state, sha256, read_at - max(state[1], state[2]) > _SETTLED_NS)
    return _Entry(state, sha256, False)


@dataclass(frozen=True)
class Upload:
    """An app as the server gets it, and where the content is that it may ask for."""

    app: AppSpec
    content: dict[str, str]


def collect(evaluated: Evaluated, digests: Digests) -> Upload:
    """The app with its files listed. Raises LoadError when a file vanished meanwhile."""
    content: dict[str, str] = {}
    files = []
    try:
        for source in evaluated.sources:
            sha256, size = digests.of(source.local_path)
            content[sha256] = source.local_path
            files.append(SourceFile(source.remote_path, sha256, size, source.mode))
        for source in evaluated.build_sources:
            content[digests.of(source.local_path)[0]] = source.local_path
    except OSError as error:
        raise errors.LoadError(f"{error.filename} cannot be read: {error.strerror}") from error
    files.sort(key=lambda file: file.remote_path)
    return Upload(replace(evaluated.app, files=tuple(files)), content)


DIRECT_FILES = 8
DIRECT_BYTES = 256 * 1024
"""So little goes along with the revision, without asking first: a save is one file, and each request would be one more way
to the server and back."""


async def send(client: Client, upload: Upload, known: set[str]) -> None:
    """Give the server what it lacks of `upload`; `known` is what it has for sure, and grows.

    Raises LoadError when a file has changed since it was listed.
    """
    unknown = [sha256 for sha256 in upload.content if sha256 not in known]
    sizes = {file.sha256: file.size for file in upload.app.files}
    total = sum(sizes.get(sha256, DIRECT_BYTES) for sha256 in unknown)
    if unknown and (not known or len(unknown) > DIRECT_FILES or total > DIRECT_BYTES):
        await put(client, upload, await client.missing_blobs(unknown))
    else:
        for sha256 in unknown:
            client.carry(sha256, await asyncio.to_thread(_read, _path(upload, sha256), sha256))
    known.update(unknown)


async def put(client: Client, upload: Upload, hashes: Iterable[str]) -> None:
    """Send the content of these hashes. Raises LoadError when a file has changed since it was listed."""
    for sha256 in hashes:
        await client.put_blob(sha256, await asyncio.to_thread(_read, _path(upload, sha256), sha256))


def _path(upload: Upload, sha256: str) -> str:
    path = upload.content.get(sha256)
    if path is None:
        raise errors.InternalFailure(f"The server asks for content {sha256[:12]} that the app does not have.")
    return path


def _read(path: str, sha256: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise errors.LoadError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise errors.LoadError(f"{path} changed while it was being sent")
    return data
