"""The user's program as it is on disk: when it changes, what it says, what its files contain.

    changed()   waits until some watched file's content differs from what the last evaluation saw
    evaluate()  runs the warm loader on the latest state and lists the files

The order keeps it from ever being stale: contents are noted *before* an evaluation reads them, so whatever changes
during or after it differs from the note and is seen by the next `changed`.

It also keeps what is sent from being a mixture: every file is looked at again after its content was listed. One that is not
as it was before the evaluation may have been executed in one state and listed in another (a file saved in place is empty
for a moment), so the evaluation is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from zygo import errors, loader
from zygo.cli.watch import Watcher
from zygo.program.reload import EvaluationCancelledError, WarmLoader
from zygo.program.sources import EMPTY, Digests, Seen, Upload, collect, is_being_written
from zygo.sdk.sources import WATCH_JUNK, WatchRoot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zygo.loader import AppRef, Evaluated

SECOND_LOOK_SECONDS = 0.05
"""How long after a failed evaluation a further change means that the file had only been half written."""

REWRITE_SECONDS = 1.0
"""How long a file that was emptied, or that somebody still writes, is waited for. Saving in place empties a file first, and
on a machine that stalls its new content may come much later."""

_LOOK_SECONDS = 0.02
"""Between two looks at a file that was emptied: events alone are not enough, since the system may send none."""

PATIENCE_SECONDS = 1.0
"""How much longer than the last one an evaluation may go on once a newer state is there."""

ROUNDS = 8
"""Enough for a burst of saves to settle; a file that is written all the time must not keep the app from being live."""

HALF_SAVES_SECONDS = 3.0
"""So long a state that may be half of a save, since it fails or was not listed as it was evaluated, is followed by another
evaluation, however many there were: ROUNDS of a small program are over in less than a burst of saves."""

_CLOCK_TICK_NS = 10_000_000
"""File times come from the kernel's coarse clock, which is up to one tick behind."""


class Live:
    """`ref`'s program. Made on the event loop that uses it; `close` it."""

    def __init__(self, ref: AppRef, name: str | None, *, reload: bool) -> None:
        self._ref = ref
        self._loader = WarmLoader(ref, name)
        self._watcher = Watcher() if reload else None
        self._digests = Digests()
        self._seen: dict[str, str] = {}
        self._files: frozenset[str] = frozenset()
        self._changed: set[str] = set()
        self._unread: set[str] = set()
        self._again = True
        self._roots: tuple[WatchRoot, ...] = ()
        self._took = 0.0

    @property
    def watched(self) -> list[str]:
        """What is watched, to be shown: files by name, whole folders with a slash at the end. What only may appear
        one day (a module that would shadow a library) is left out."""
        shown = set()
        for root in self._roots:
            if root.files is None:
                shown.add(os.path.join(os.path.relpath(root.path), ""))
            else:
                files = [os.path.join(root.path, name) for name in root.files]
                shown |= {os.path.relpath(path) for path in files if os.path.isfile(path)}
        return sorted(shown)

    @property
    def deaf(self) -> bool:
        """Whether changes are only found by looking, since the system sends no events."""
        return self._watcher is not None and self._watcher.deaf

    @property
    def warm_pid(self) -> int | None:
        """The warm loader's process."""
        return self._loader.pid

    async def start(self) -> None:
        """Start the warm loader's process already."""
        await self._loader.start()

    async def changed(self) -> None:
        """Return once a watched file's content is another one than the last evaluation saw."""
        if self._watcher is None:
            await asyncio.get_running_loop().create_future()
            return
        while not self._changed:
            if not self._unread:
                paths = await self._watcher.changed(self._watcher.reconcile_seconds)
                if not paths:
                    if self._watcher.moved():
                        self._watcher.arm(self._roots)
                    paths = set(self._files)
                self._unread |= paths
            # They stay there until they are read: whoever waits here may be cancelled meanwhile.
            paths = set(self._unread)
            self._changed |= await asyncio.to_thread(self._differing, paths)
            self._unread -= paths

    async def evaluate(self) -> Upload:
        """The latest state, evaluated until no newer one is there (or ROUNDS times, when files change all the time).

        Raises what `WarmLoader.evaluate` raises.
        """
        left = ROUNDS
        patient = time.monotonic() + HALF_SAVES_SECONDS
        self._again = True
        touched: set[str] = set()
        while True:
            before = await self._settled(touched)
            started, clock = time.time_ns(), time.monotonic()
            try:
                evaluated = await self._patiently()
                upload = await asyncio.to_thread(collect, evaluated, self._digests)
                left -= 1
            except EvaluationCancelledError:
                continue
            except errors.Error as error:
                self._arm((*self._roots, *loader.watch_roots(self._ref), *_fallback(self._ref, error)))
                left -= 1
                if (left > 0 or time.monotonic() < patient) and (
                    await self._mixed(before) or await self._changes_soon(touched)
                ):
                    continue
                raise
            self._took = time.monotonic() - clock
            self._arm(evaluated.watch)
            self._follow(evaluated, started)
            mixed, whole = await self._mixed(before), _is_of(upload, before)
            if (whole and (left <= 0 or not mixed)) or (left <= 0 and time.monotonic() >= patient):
                return upload  # what changed meanwhile makes the next `changed` return at once

    def preload(self, modules: tuple[str, ...]) -> None:
        """Hold these third-party modules for the evaluations to come."""
        if self._watcher is not None:
            self._loader.preload(modules)

    async def close(self) -> None:
        """End the watch and the warm loader. May be called twice."""
        if self._watcher is not None:
            self._watcher.close()
        await self._loader.close()

    async def _patiently(self) -> Evaluated:
        """Evaluate; give up for a newer state only when it takes much longer than it should."""
        running = asyncio.ensure_future(self._loader.evaluate())
        newer = asyncio.ensure_future(self.changed())
        try:
            await asyncio.wait({running, newer}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait({running}, timeout=PATIENCE_SECONDS + 2 * self._took)
                if not running.done():
                    self._loader.cancel()
            return await running
        finally:
            for task in (running, newer):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, errors.Error):
                    await task

    async def _changes_soon(self, paths: Iterable[str]) -> bool:
        """Whether a failed state was only half of a save: more changes come, of these paths for as long as they are written."""
        if self._watcher is None:
            return False
        deadline = time.monotonic() + REWRITE_SECONDS
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed(), SECOND_LOOK_SECONDS)
            if self._changed or time.monotonic() > deadline:
                return bool(self._changed)
            if not any([is_being_written(path) for path in paths]):
                return False

    async def _settled(self, touched: set[str]) -> dict[str, Seen]:
        """What each file is before an evaluation reads it; `touched` grows by what changed.

        One that has lost its content since the last time gets it again first, or REWRITE_SECONDS pass.
        """
        deadline = time.monotonic() + REWRITE_SECONDS
        while True:
            touched |= self._changed | self._unread | (self._watcher.take() if self._watcher else set())
            self._changed, self._unread = set(), set()
            before = await asyncio.to_thread(self._look, touched | self._files)
            emptied = any(seen.empty and self._seen.get(path, "") not in ("", EMPTY) for path, seen in before.items())
            if not emptied or time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._seen.update({path: seen.sha256 for path, seen in before.items()})
        return before

    async def _mixed(self, before: dict[str, Seen]) -> bool:
        """Whether an evaluation that began with `before` has to be made again: some file was written during it."""
        after = await asyncio.to_thread(self._look, before)
        self._changed |= {path for path, seen in after.items() if seen.sha256 != before[path].sha256}
        if self._changed:
            return True
        # Written, with the content that it had: it may have been executed while it was empty. Once only, since a program that
        # writes such a file whenever it is executed would not come to an end.
        again, self._again = self._again, False
        return again and after != before

    def _look(self, paths: Iterable[str]) -> dict[str, Seen]:
        return {path: self._digests.seen(path) for path in paths}

    def _differing(self, paths: Iterable[str]) -> set[str]:
        found = set()
        for path in paths:
            if self._digests.look(path) != self._seen.get(path, ""):
                found.add(path)
            elif path not in self._seen and os.path.isdir(path):
                found.add(path)  # a folder that came with its files: they have no events of their own
            elif not os.path.exists(path):
                # A folder that went with its files.
                found |= {known for known in self._files if known.startswith(path + os.sep)}
        return found

    def _arm(self, roots: Iterable[WatchRoot]) -> None:
        self._roots = tuple(dict.fromkeys(roots))
        if self._watcher is not None:
            self._watcher.arm(self._roots)

    def _follow(self, evaluated: Evaluated, started: int) -> None:
        """Know the files that this evaluation read; what is new among them may have changed before it was watched."""
        files = {source.local_path for source in (*evaluated.sources, *evaluated.build_sources)}
        for root in evaluated.watch:
            files |= {os.path.join(root.path, name) for name in root.files or ()}
        for path in files - self._seen.keys():
            self._seen[path] = self._digests.look(path)
            with contextlib.suppress(OSError):
                if os.stat(path).st_ctime_ns >= started - _CLOCK_TICK_NS:
                    self._changed.add(path)
        self._files = frozenset(files)


def _is_of(upload: Upload, before: dict[str, Seen]) -> bool:
    """Whether what was listed is what the evaluation began with; else it may be half of a save, as an emptied file is."""
    return all(before[path].sha256 == sha256 for sha256, path in upload.content.items() if path in before)


def _fallback(ref: AppRef, error: errors.Error) -> list[WatchRoot]:
    """Where the mend of a failed evaluation may appear: beside the user's file, and beside the one that failed."""
    folders = []
    if ref.path is not None:
        folders.append(os.path.dirname(os.path.abspath(ref.path)))
    elif ref.module is not None:
        top = os.path.join(os.getcwd(), ref.module.split(".")[0])
        folders.append(top if os.path.isdir(top) else os.getcwd())
    if (file := getattr(error, "file", None)) and os.path.isfile(file):
        folders.append(os.path.dirname(os.path.abspath(file)))
    return [WatchRoot(folder, ignore=WATCH_JUNK) for folder in dict.fromkeys(folders)]
