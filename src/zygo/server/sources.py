"""Files that users' machines send: content-addressed blobs, and the trees that revisions are made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from zygo.engine.machine import open_to_sandbox
from zygo.errors import InvalidError
from zygo.runtime.sandbox import SANDBOX_UID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterable

    from zygo.model import SourceFile

LINK_FROM = 8 * 2**20
"""Bytes. Larger blobs are linked into a revision instead of copied; a sandbox shows them read-only. Smaller ones are
copied: a link saves nothing and without a sandbox could be written through."""

KEEP_SECONDS = 7 * 24 * 3600.0
"""How long a blob that nothing has asked for is kept."""


class SourceStore:
    """Blobs and revision trees below one data directory.

    Arguments:
        data: the server's data directory.
        link: whether large files may be hard-linked (not without a sandbox).
    """

    def __init__(self, data: Path, *, link: bool, is_root: bool) -> None:
        self._blobs = data / "blobs"
        self._revisions = data / "revisions"
        self._link = link
        self._is_root = is_root
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._blobs.chmod(0o700)
        shutil.rmtree(
            self._revisions, ignore_errors=True
        )  # a killed server's: ephemeral, made again by the next publish
        self._revisions.mkdir(parents=True)
        open_to_sandbox(self._revisions, is_root=is_root)

    def path(self, sha256: str) -> Path:
        """Where the blob is, or will be. Raises InvalidError for what is not 64 hex digits (it becomes a path)."""
        if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
            raise InvalidError(f"{sha256[:80]!r} is not a SHA-256 in hexadecimal.")
        return self._blobs / sha256[:2] / sha256

    def missing(self, hashes: Iterable[str]) -> list[str]:
        """Those of `hashes` that must be sent; the others are touched, which keeps them."""
        absent = []
        for sha256 in dict.fromkeys(hashes):
            try:
                os.utime(self.path(sha256))
            except FileNotFoundError:
                absent.append(sha256)
        return absent

    async def put(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a blob. Raises InvalidError when the content has another hash; then nothing is kept."""
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        staged = target.with_name(f".{sha256}.{os.getpid()}.{time.monotonic_ns()}")
        digest = hashlib.sha256()
        try:
            with staged.open("wb") as file:
                async for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise InvalidError(f"The content sent as {sha256} has the hash {digest.hexdigest()}.")
            staged.chmod(0o644)
            staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)

    def sync(self, hashes: Iterable[str]) -> None:
        """Have these blobs on the disk itself, also if the power goes. Cheap for those that are there already."""
        folders = set()
        for sha256 in dict.fromkeys(hashes):
            path = self.path(sha256)
            folders.add(path.parent)
            _sync(path)
        for folder in (*folders, self._blobs):
            _sync(folder)

    def materialise(self, revision: str, files: Iterable[SourceFile]) -> Path:
        """Make the tree of a revision: each file at its absolute path below the returned directory.

        Raises InvalidError for a path that is not absolute, leaves the tree or lies below a file, FileNotFoundError when
        a blob is not there; then nothing of the tree is left.
        """
        root = self._revisions / revision
        try:
            self._fill(root, files)
        except BaseException:
            shutil.rmtree(root, ignore_errors=True)
            raise
        return root

    def _fill(self, root: Path, files: Iterable[SourceFile]) -> None:
        (root / "root").mkdir(parents=True)
        for file in files:
            parts = PurePosixPath(file.remote_path).parts
            if not parts or parts[0] != "/" or len(parts) < 2 or ".." in parts:
                raise InvalidError(f"{file.remote_path!r} is not an absolute path of a file in a container.")
            target = root.joinpath(*parts[1:])
            try:
                self._place(file, target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                text = f"{file.remote_path} is a file for one part of the app and a directory for another."
                raise InvalidError(text) from None
        for directory in [root, *(p for p in root.rglob("*") if p.is_dir())]:
            directory.chmod(0o755)
        if self._is_root:
            self._give_to_sandbox(root)

    def _give_to_sandbox(self, root: Path) -> None:
        """Without this what a program brings is its own for an ordinary user and not for root, whose containers have
        another uid: a container may change its copy of each file, in its private layer."""
        for path in [root, *root.rglob("*")]:
            if path.stat().st_nlink == 1 or path.is_dir():  # a linked one is the blob itself
                os.chown(path, SANDBOX_UID, SANDBOX_UID)

    def _place(self, file: SourceFile, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.path(file.sha256)
        if self._link and file.size >= LINK_FROM:
            os.link(source, target)
            return
        shutil.copyfile(source, target)
        target.chmod(0o755 if file.mode & 0o111 else 0o644)

    def remove(self, revisions: Iterable[Path]) -> None:
        """Remove trees that `materialise` made."""
        for revision in revisions:
            shutil.rmtree(revision, ignore_errors=True)

    def sweep(self, now: float, keep: Container[str] = ()) -> None:
        """Remove blobs that nobody has asked for in KEEP_SECONDS, and what an interrupted upload left. Those whose hash is in
        `keep` stay: a revision that one can go back to needs them."""
        for path in self._blobs.glob("*/*"):
            age = now - path.stat().st_mtime
            if path.name in keep:
                continue
            if age > KEEP_SECONDS or (path.name.startswith(".") and age > 3600):
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
