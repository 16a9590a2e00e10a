"""What `Image.add_local_*` adds, found when the app is served: files as they are then, and what to watch."""

from __future__ import annotations

import importlib.machinery
import os
import posixpath
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from zygo.errors import InvalidError
from zygo.sdk.patterns import FilePatternMatcher, Ignore, matcher
from zygo.sdk.sources import REMOTE_ROOT, WATCH_JUNK, LocalSource, WatchRoot, local_source, walk, watch_file

if TYPE_CHECKING:
    from pathlib import Path

_FORBIDDEN = ("/proc", "/dev", "/sys", "/.zygo")


@dataclass(frozen=True)
class Added:
    """The files of one `add_local_*`, and what to watch for them."""

    sources: tuple[LocalSource, ...]
    watch: tuple[WatchRoot, ...]


def add_file(call: str, local: str | os.PathLike[str], remote: str) -> Callable[[], Added]:
    """A file. `call` is the Image method in messages. Raises InvalidError for a bad remote path."""
    path = os.path.abspath(os.fspath(local))
    if str(remote).endswith("/"):
        remote = posixpath.join(remote, os.path.basename(path))
    place = _check_remote(call, remote)

    def find() -> Added:
        if not os.path.isfile(path):
            kind = "is a directory; use add_local_dir" if os.path.isdir(path) else "does not exist on this machine"
            raise InvalidError(f"{call}: {os.fspath(local)!r} {kind} (looked at {path}).")
        return Added((local_source(path, place),), tuple(watch_file(path)))

    return find


def add_dir(call: str, local: str | os.PathLike[str], remote: str, ignore: Ignore) -> Callable[[], Added]:
    """All files of a directory but those that `ignore` picks. Raises InvalidError for bad arguments."""
    path = os.path.abspath(os.fspath(local))
    place = _check_remote(call, remote)
    ignored = matcher(ignore)

    def find() -> Added:
        if not os.path.isdir(path):
            kind = "is a file; use add_local_file" if os.path.isfile(path) else "does not exist on this machine"
            raise InvalidError(f"{call}: {os.fspath(local)!r} {kind} (looked at {path}).")
        return _directory(path, place, ignored)

    return find


def add_python_source(call: str, names: tuple[str, ...], ignore: Ignore) -> Callable[[], Added]:
    """Modules and packages of this machine by import name. Raises InvalidError for bad arguments."""
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InvalidError(f"{call}: {name!r} is not the name of a module, such as 'mypackage'.")
    if not names:
        raise InvalidError(f"{call}: give at least one module, such as add_local_python_source('mypackage').")
    ignored = matcher(ignore)

    def find() -> Added:
        sources: list[LocalSource] = []
        watch: list[WatchRoot] = []
        for name in names:
            added = _module(call, name, ignored)
            sources += added.sources
            watch += added.watch
        return Added(tuple(sources), tuple(watch))

    return find


def _directory(path: str, place: str, ignored: Callable[[Path], bool]) -> Added:
    patterns = isinstance(ignored, FilePatternMatcher)
    prune = patterns and ignored.can_prune  # type: ignore[attr-defined]
    sources = tuple(
        local_source(file, posixpath.join(place, relative.replace(os.sep, "/")))
        for file, relative in walk(path, ignored, prune=prune)
    )
    # What a function ignores is watched all the same: another evaluation then finds that nothing changed.
    ignore = (*WATCH_JUNK, *ignored.patterns) if isinstance(ignored, FilePatternMatcher) else WATCH_JUNK
    return Added(sources, (WatchRoot(path, None, True, ignore),))


def _module(call: str, name: str, ignored: Callable[[Path], bool]) -> Added:
    spec = _find(name)
    if spec is None:
        raise InvalidError(
            f"{call}: there is no module {name!r} on this machine's import path. "
            f"Check the name, or run the command in the directory that holds it."
        )
    place = posixpath.join(REMOTE_ROOT, *name.split("."))
    if spec.submodule_search_locations:
        parts = [_directory(str(p), place, ignored) for p in spec.submodule_search_locations if os.path.isdir(p)]
        return Added(tuple(s for p in parts for s in p.sources), tuple(w for p in parts for w in p.watch))
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise InvalidError(f"{call}: module {name!r} is not Python source. Install it with image.pip_install(...).")
    path = os.path.abspath(spec.origin)
    return Added((local_source(path, place + ".py"),), tuple(watch_file(path)))


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    # Part by part and without importing: a parent's own code must not run for this.
    path: list[str] | None = None
    spec = None
    for i, _ in enumerate(parts := name.split(".")):
        importlib.machinery.PathFinder.invalidate_caches()
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), path or sys.path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _check_remote(call: str, remote: str) -> str:
    place = posixpath.normpath(str(remote))
    if not place.startswith("/"):
        raise InvalidError(
            f"{call}: remote_path={str(remote)!r} is not absolute. Use {posixpath.join('/root', place)!r}."
        )
    place = "/" + place.lstrip("/")
    if place == "/" or any(place == top or place.startswith(top + "/") for top in _FORBIDDEN):
        raise InvalidError(f"{call}: remote_path={str(remote)!r} is reserved. Use a directory such as '/root/data'.")
    return place
