"""Which files changed: file system events from `watchfiles`, and a slow look at every file for what they miss.

A `Watcher` is armed with the roots that the last evaluation named and yields paths that may have changed; what a path's
*content* says is for `sources.Digests` to decide. Events are grouped over one step of the library, 10 ms, so a save is
known 10 to 20 ms after it happened. Editors replace, truncate, rename and recreate files: a root is therefore always
a folder and never a single file, whose inode a replacement would leave behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from watchfiles._rust_notify import RustNotify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zygo.sdk.sources import WatchRoot

STEP_MS = 10
_GROUP_MS = 50
_WAKE_MS = 60_000

RECONCILE_SECONDS = 2.0
"""Between two looks at every watched file: events get lost (an overflow, a network drive, a folder replaced whole)."""

RECONCILE_SECONDS_WITHOUT_EVENTS = 0.5


class Watcher:
    """Collects the paths under its roots that may have changed. Made and used on one event loop; `close` it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._roots: tuple[WatchRoot, ...] = ()
        self._armed: dict[tuple[bool, frozenset[str]], _Notifier] = {}
        self._inodes: dict[str, int] = {}
        self._pending: set[str] = set()
        self._event = asyncio.Event()
        self.deaf = False
        """Whether the system refuses to send events (its limit of watches): only the slow look is left."""

    def arm(self, roots: Iterable[WatchRoot]) -> bool:
        """Watch these roots instead of the former ones; whether that changed anything.

        What happens in between is not lost: the new watches are made before the old ones end. What happened before
        is the caller's to look for.
        """
        self._roots = tuple(roots)
        flat: set[str] = set()
        deep: set[str] = set()
        for root in self._roots:
            (deep if root.recursive else flat).add(root.path)
        wanted = {(False, _existing(flat)), (True, _existing(deep))}
        inodes = {path: _inode(path) for _, paths in wanted for path in paths}
        replaced = {path for path, inode in inodes.items() if self._inodes.get(path, inode) != inode}
        self._inodes = inodes
        old = self._armed
        self._armed = {}
        for key in wanted:
            if key[1]:
                fresh = key not in old or bool(replaced & key[1])
                self._armed[key] = self._notifier(*key) if fresh else old.pop(key)
        for notifier in old.values():
            notifier.close()
        return bool(old) or bool(replaced)

    async def changed(self, seconds: float | None = None) -> set[str]:
        """The paths with events since the last call, at least one; empty when `seconds` passed without any."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return set()
        return self.take()

    def take(self) -> set[str]:
        """The paths with events since the last call, without waiting."""
        paths, self._pending = self._pending, set()
        self._event.clear()
        return paths

    def moved(self) -> bool:
        """Whether a watched folder is gone or another one now: its events come no more, `arm` again."""
        return any(_inode(path) != inode for path, inode in self._inodes.items()) or any(
            os.path.isdir(root.path) and root.path not in self._inodes for root in self._roots
        )

    @property
    def reconcile_seconds(self) -> float:
        return RECONCILE_SECONDS_WITHOUT_EVENTS if self.deaf else RECONCILE_SECONDS

    def close(self) -> None:
        """End every thread. May be called twice."""
        armed, self._armed = self._armed, {}
        for notifier in armed.values():
            notifier.close()

    def _notifier(self, recursive: bool, paths: frozenset[str]) -> _Notifier:
        notifier = _Notifier(paths, recursive, self._from_thread)
        self.deaf = self.deaf or notifier.deaf
        return notifier

    def _from_thread(self, paths: set[str]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived, paths)
        except RuntimeError:  # the loop is closed: the command is ending
            return

    def _arrived(self, paths: set[str]) -> None:
        wanted = {path for path in paths if any(root.wants(path) for root in self._roots)}
        if wanted:
            self._pending |= wanted
            self._event.set()


class _Notifier:
    """One thread that waits for the library's next group of events."""

    def __init__(self, paths: frozenset[str], recursive: bool, arrived: Callable[[set[str]], None]) -> None:
        self._stop = threading.Event()
        self._arrived = arrived
        self._thread: threading.Thread | None = None
        self.deaf = False
        try:
            self._rust = RustNotify(sorted(paths), False, False, 300, recursive, True)
        except (OSError, RuntimeError) as error:
            # A limit of inotify; or a folder that vanished just now, which `moved` tells.
            self.deaf = not isinstance(error, FileNotFoundError)
            return
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            found = self._rust.watch(_GROUP_MS, STEP_MS, _WAKE_MS, self._stop)
            if isinstance(found, set):
                self._arrived({path for _, path in found})

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)  # one step of the library; a daemon thread besides
            self._rust.close()


def _existing(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(path for path in paths if os.path.isdir(path))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
