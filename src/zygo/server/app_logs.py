"""The logs of apps: who writes, who follows, what is kept, by app.

    container's line -> AppLog.write -> allowance -> the serving terminal, followers
                                             \\-> buffer -> (0.2 s) -> LogWriter's thread -> files

A deployed app's lines are in <folder>/<app>/, those of a served one in <folder>/<app>@dev/, and outside of the first
environment in <folder>/<app>@in-<environment's id>[@dev]/; they stay when the app ends. A server that is killed loses what
came in the last 0.2 seconds.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zygo import errors
from zygo.model import MAIN
from zygo.runtime.flood import LINES_AT_ONCE, LINES_PER_SECOND, Allowance
from zygo.server.log_lines import Line, Wanted, cut
from zygo.server.log_writer import LogWriter, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

FLUSH_SECONDS = 0.2
FLUSH_BYTES = 256 * 1024
"""Lines go to the writer after this time, or when there are so many bytes of them."""

CHARACTERS_PER_SECOND = 4 * 2**20
"""Of output of one app, besides the number of lines: the three files of the default size last ten seconds of it."""

MAX_BEHIND = 10_000
"""Lines that may wait for one follower; later ones are dropped, and it is told how many."""

SNAPSHOT_SECONDS = 15.0
"""What the writer may take until it comes to a reader's turn: longer means that the disk hangs."""

_DEV = "@dev"
_IN = "@in-"


@dataclass(frozen=True)
class LogKey:
    """Whose log: an app's name, whether it is the served (ephemeral) one of that name, and its environment's id."""

    app: str
    ephemeral: bool
    environment: str = MAIN

    @property
    def folder(self) -> str:
        """The name of its folder. Different keys have different ones, and `of_folder` reads those of usual length."""
        name = urllib.parse.quote(self.app, safe="")
        if name.startswith("."):
            name = f"%2E{name[1:]}"
        if len(name) > 200:  # a file name has at most 255 bytes
            name = f"{name[:150]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        place = "" if self.environment == MAIN else f"{_IN}{self.environment}"
        return f"{name}{place}{_DEV if self.ephemeral else ''}"

    @staticmethod
    def of_folder(name: str) -> LogKey:
        """The key whose folder has this name."""
        quoted, _, environment = name.removesuffix(_DEV).partition(_IN)
        return LogKey(urllib.parse.unquote(quoted), name.endswith(_DEV), environment or MAIN)

    @property
    def shown(self) -> str:
        """As a user may name it."""
        return f"{self.app}-dev" if self.ephemeral else self.app


class Follower:
    """One reader of the lines to come. `next` gives them; `close` ends it, and may be called twice."""

    def __init__(self, wanted: Wanted, end: Callable[[Follower], None]) -> None:
        self._wanted = wanted
        self._end = end
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._ended = False
        self._news = asyncio.Event()

    def add(self, line: Line, encoded: bytes) -> None:
        """A line was written. Never waits."""
        if not self._wanted.matches(line):
            return
        if len(self._lines) >= MAX_BEHIND:
            self._dropped += 1
            return
        self._lines.append(encoded)
        self._news.set()

    def stop(self) -> None:
        """Let `next` return b"" once what waits is read."""
        self._ended = True
        self._news.set()

    async def next(self) -> bytes:
        """All lines that came since, at least one; b"" when there will be none any more."""
        while not self._lines and not self._ended:
            self._news.clear()
            await self._news.wait()
        lines = b"".join(self._lines)
        self._lines.clear()
        if self._dropped:
            text = f"{self._dropped:,} lines were dropped: the reader does not keep up"
            lines += Line(time.time(), "", "", "system", text).encoded()
            self._dropped = 0
        return lines

    def close(self) -> None:
        self._end(self)


class AppLog:
    """Takes the lines of one app while it is live. `on_line` is called with each that is kept.

    Output of the app's own (stdout and stderr) is limited to LINES_PER_SECOND and CHARACTERS_PER_SECOND; a line says how much
    was left out. What zygo says, and requests, which have a limit of their own, are always taken.
    """

    def __init__(self, logs: AppLogs, key: LogKey) -> None:
        self.key = key
        self.on_line: Callable[[Line], None] = lambda line: None
        self._logs = logs
        self._folder = logs.folder / key.folder
        self._loop = asyncio.get_running_loop()
        self._buffer: list[bytes] = []
        self._size = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._lines = Allowance(LINES_PER_SECOND, LINES_AT_ONCE)
        self._characters = Allowance(CHARACTERS_PER_SECOND, 4 * CHARACTERS_PER_SECOND)
        self._left_out = 0
        self._flood_timer: asyncio.TimerHandle | None = None

    def write(
        self, function: str, stream: str, text: str, *, container: str = "", revision: str = "", call: str = ""
    ) -> None:
        """Add one line. Never waits, never fails."""
        if stream in ("stdout", "stderr") and not self._granted(len(text)):
            self._left_out += 1
            if self._flood_timer is None:
                self._flood_timer = self._loop.call_later(1.0, self._tell_left_out)
            return
        self._add(Line(time.time(), function, container, stream, cut(text), revision, call))

    def flush(self) -> None:
        """Hand the lines so far to the writer."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self._buffer:
            lines, self._buffer, self._size = self._buffer, [], 0
            self._logs.writer.write(self._folder, lines)

    def close(self) -> None:
        """Hand over what there is, and be live no more. May be called twice."""
        if self._flood_timer is not None:
            self._flood_timer.cancel()
            self._tell_left_out()
        self.flush()
        self._logs.closed(self)

    def _granted(self, characters: int) -> bool:
        now = self._loop.time()
        if self._characters.take(characters, now) < characters:
            return False
        return self._lines.take(1, now) == 1

    def _tell_left_out(self) -> None:
        number, self._left_out, self._flood_timer = self._left_out, 0, None
        text = (
            f"{number:,} more lines of output were left out: more than {LINES_PER_SECOND:,} lines or "
            f"{CHARACTERS_PER_SECOND // 2**20} MiB in a second"
        )
        self._add(Line(time.time(), "", "", "system", text))

    def _add(self, line: Line) -> None:
        encoded = line.encoded()
        self._buffer.append(encoded)
        self._size += len(encoded)
        if self._size >= FLUSH_BYTES:
            self.flush()
        elif self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_SECONDS, self.flush)
        self.on_line(line)
        for follower in self._logs.followers(self.key):
            follower.add(line, encoded)


class AppLogs:
    """The logs of all apps below one folder. Made and used on the event loop."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.writer = LogWriter(max_bytes)
        self._live: dict[LogKey, list[AppLog]] = {}
        self._followers: dict[LogKey, list[Follower]] = {}

    def open(self, app: str, *, ephemeral: bool, environment: str = MAIN) -> AppLog:
        """The log of an app that begins to live; its owner closes it. Two of one name may overlap: one ends, one begins."""
        opened = AppLog(self, LogKey(app, ephemeral, environment))
        self._live.setdefault(opened.key, []).append(opened)
        return opened

    def find(self, name: str, environment: str = MAIN) -> LogKey:
        """Whose log `name` means in an environment: the deployed app's, else the served one's, also as `name`-dev.

        Raises NotFoundError with names that are near when no such app lives or has left a log.
        """
        for app, ephemeral in ((name, False), (name, True), (name.removesuffix("-dev"), True)):
            key = LogKey(app, ephemeral, environment)
            if name and (key in self._live or (self.folder / key.folder).is_dir()):
                return key
        near = difflib.get_close_matches(
            name, sorted({key.shown for key in self._known() if key.environment == environment}), n=3, cutoff=0.5
        )
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise errors.NotFoundError(
            f"There is no app {name[:100]!r}, and no log of one.{hint} `zygo server status` shows the apps."
        )

    def is_live(self, key: LogKey) -> bool:
        """Whether lines may still come."""
        return key in self._live

    async def snapshot(self, key: LogKey) -> Snapshot:
        """The files with every line so far. Raises TimeoutError when the disk does not answer."""
        return await self._snapshot(key)

    async def follow(self, key: LogKey, wanted: Wanted) -> tuple[Snapshot, Follower]:
        """The files with every line so far, and every later one: none is in both or in neither."""
        follower = Follower(wanted, lambda one: self._unfollow(key, one))
        self._followers.setdefault(key, []).append(follower)
        try:
            return await self._snapshot(key), follower
        except BaseException:
            follower.close()
            raise

    def followers(self, key: LogKey) -> list[Follower]:
        """Who reads along."""
        return self._followers.get(key, _NOBODY)

    def closed(self, one: AppLog) -> None:
        """`one` is live no more."""
        live = self._live.get(one.key, [])
        if one in live:
            live.remove(one)
            if not live:
                del self._live[one.key]
                self.writer.forget(self.folder / one.key.folder)

    def remove(self, environment: str) -> None:
        """Remove the logs of every app of an environment, in which none lives any more."""
        for key in self._known():
            if key.environment == environment:
                self.writer.remove(self.folder / key.folder)

    def end_followers(self) -> None:
        """Let every follower's stream end: the server stops."""
        for followers in self._followers.values():
            for follower in followers:
                follower.stop()

    async def close(self) -> None:
        """Write what waits. May be called twice."""
        self.end_followers()
        for live in list(self._live.values()):
            for one in list(live):
                one.close()
        await asyncio.to_thread(self.writer.close)

    def _known(self) -> set[LogKey]:
        try:
            kept = {LogKey.of_folder(path.name) for path in self.folder.iterdir() if path.is_dir()}
        except OSError:
            kept = set()
        return kept | set(self._live)

    async def _snapshot(self, key: LogKey) -> Snapshot:
        # No await between here and a caller's subscription: the order of jobs is what makes the two meet exactly.
        for one in self._live.get(key, ()):
            one.flush()
        taken = self.writer.snapshot(self.folder / key.folder)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(taken), SNAPSHOT_SECONDS)
        except BaseException as error:
            taken.add_done_callback(_close_unread)
            if isinstance(error, TimeoutError):
                raise errors.TimeoutError(
                    f"The log of {key.shown!r} cannot be read: its disk does not answer."
                ) from None
            raise

    def _unfollow(self, key: LogKey, one: Follower) -> None:
        followers = self._followers.get(key, [])
        if one in followers:
            followers.remove(one)
            if not followers:
                del self._followers[key]


def _close_unread(taken: Future[Snapshot]) -> None:
    if not taken.cancelled():
        taken.result().close()


_NOBODY: list[Follower] = []
