"""Files of this machine that go into containers, and what has to be watched so that a change of them is seen."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from zygo.errors import InvalidError
from zygo.sdk.patterns import FilePatternMatcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REMOTE_ROOT = "/root"
"""Where the user's own modules are in every container; also its working directory."""

JUNK = (
    *("**/__pycache__", "**/*.pyc", "**/*.pyo", "**/.git", "**/.hg", "**/.svn", "**/.DS_Store"),
    *("**/.mypy_cache", "**/.ruff_cache", "**/.pytest_cache"),
)
"""Never shipped, never watched."""

WATCH_JUNK = (
    *JUNK,
    *("**/*~", "**/*.swp", "**/*.swx", "**/*.tmp", "**/.#*", "**/#*#", "**/4913", "**/*.log", "**/*-journal"),
    *("**/*-wal", "**/*-shm"),
)
"""Never watched: also what editors and programs write beside what they are about."""

_junk = FilePatternMatcher(*JUNK)


@dataclass(frozen=True)
class LocalSource:
    """One file of this machine and where it is in the containers. `mode` is 0o644 or 0o755."""

    local_path: str
    remote_path: str
    mode: int


@dataclass(frozen=True)
class WatchRoot:
    """A directory to watch.

    path: absolute.
    files: only entries of these names in `path` itself matter (they may not exist yet); None: all do.
    recursive: what lies deeper matters too.
    ignore: .dockerignore patterns, relative to `path`, of what never matters; see `wants`.
    """

    path: str
    files: tuple[str, ...] | None = None
    recursive: bool = False
    ignore: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Whether a change of the absolute `path` matters."""
        relative = os.path.relpath(path, self.path)
        if relative == "." or relative.startswith(".."):
            return False
        if self.files is not None:
            return relative in self.files
        return (self.recursive or "/" not in relative) and not FilePatternMatcher(*self.ignore)(relative)


def watch_file(path: str) -> list[WatchRoot]:
    """What to watch for one file, which need not exist: its directory, since editors replace files."""
    roots = [WatchRoot(os.path.dirname(path), (os.path.basename(path),))]
    real = os.path.realpath(path)
    if os.path.islink(path):
        roots.append(WatchRoot(os.path.dirname(real), (os.path.basename(real),)))
    return roots


def merge_roots(roots: Iterable[WatchRoot]) -> tuple[WatchRoot, ...]:
    """The same, with one entry per directory where that is possible; in a stable order."""
    whole: dict[tuple[str, bool, tuple[str, ...]], WatchRoot] = {}
    named: dict[str, set[str]] = {}
    for root in roots:
        if root.files is None:
            whole[root.path, root.recursive, root.ignore] = root
        else:
            named.setdefault(root.path, set()).update(root.files)
    merged = list(whole.values()) + [WatchRoot(path, tuple(sorted(names))) for path, names in named.items()]
    return tuple(sorted(merged, key=lambda root: (root.path, root.files is None)))


def local_source(local: str, remote: str) -> LocalSource:
    """The file `local` as it will be at `remote`. Raises OSError."""
    executable = os.stat(local).st_mode & 0o100
    return LocalSource(os.path.abspath(local), remote, 0o755 if executable else 0o644)


def walk(directory: str, ignored: Callable[[Path], bool], *, prune: bool) -> Iterator[tuple[str, str]]:
    """Each wanted file below `directory` as (path, path relative to it), links followed, in a stable order.

    Arguments:
        ignored: of a relative path; true for what is left out, beside JUNK and virtual environments.
        prune: whether nothing below an ignored directory can be wanted.
    """
    seen: set[str] = set()
    for current, directories, files in os.walk(directory, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:  # a link that leads back up
            directories.clear()
            continue
        seen.add(real)
        base = os.path.relpath(current, directory)
        relative = {name: os.path.normpath(os.path.join(base, name)) for name in (*directories, *files)}
        directories[:] = sorted(
            name
            for name in directories
            if not _junk(relative[name])
            and not os.path.exists(os.path.join(current, name, "pyvenv.cfg"))
            and not (prune and ignored(Path(relative[name])))
        )
        for name in sorted(files):
            path = os.path.join(current, name)
            # Broken links, sockets and pipes have no content to ship.
            if os.path.isfile(path) and not _junk(relative[name]) and not ignored(Path(relative[name])):
                yield path, relative[name]


def sha256_of(path: str) -> str:
    """The content hash of a file. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def unique(sources: Iterable[LocalSource]) -> tuple[LocalSource, ...]:
    """The sources without repetitions, by remote path.

    Raises InvalidError when two different files claim one place.
    """
    by_place: dict[str, LocalSource] = {}
    for source in sources:
        other = by_place.setdefault(source.remote_path, source)
        if other.local_path != source.local_path and sha256_of(other.local_path) != sha256_of(source.local_path):
            raise InvalidError(
                f"{other.local_path} and {source.local_path} both go to {source.remote_path} in the containers. "
                f"Give one of them another remote path, or add it to its image with copy=True."
            )
    return tuple(replace(by_place[place]) for place in sorted(by_place))
