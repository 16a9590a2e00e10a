"""The session of a command on another machine: it outlives its connection for a while, and what happens then is not lost.

    event -> numbered, kept until the command says that it has it (`seen`)
    connection cut -> the app goes on -> `resume` with the last number that came: the rest follows
    nothing heard for GRACE_SECONDS -> the session ends, and the app with it

A connection through ssh or a proxy ends the same way whether the command was killed or the network was cut, and one that is
cut may not end at all for a quarter of an hour. So a command says that it lives, every few seconds, and says goodbye.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from zygo.server.sessions import AT_ONCE, PING_SECONDS, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zygo.server.sessions import Event

GRACE_SECONDS = 60.0
"""A command says that it lives every 10 s, so this survives a cut of 45."""


class RemoteSession(Session):
    """A session that can be resumed. Made on the event loop."""

    def __init__(self, app: str, file: str, *, running: bool = False, detached: bool = False) -> None:
        super().__init__(app, file, running=running, detached=detached)
        self._kept: deque[Event] = deque(maxlen=self._most)
        self._number = 0
        self._news = asyncio.Event()
        self._reader = 0
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._loop.call_later(GRACE_SECONDS, self._look)

    def emit(self, event: Event) -> None:
        """Keep an event; the oldest is dropped when there are too many."""
        if not self.ended.is_set() and not self.abandoned.is_set():
            self._keep(event)

    def end(self, reason: str, code: str = "ended") -> None:
        """As for any session."""
        if not self.ended.is_set():
            self._keep({"type": "ended", "reason": reason, "code": code})
            self.ended.set()

    def client_gone(self) -> None:
        """Its connection has ended: perhaps it comes back."""

    def goodbye(self) -> None:
        """The command has said that it ends."""
        super().client_gone()

    def seen(self, after: int) -> None:
        """The command lives, and has every event up to that number."""
        self._heard = self._loop.time()
        while self._kept and self._kept[0]["n"] <= after:
            self._kept.popleft()

    async def events(self, after: int = 0) -> AsyncIterator[list[Event]]:
        """The events beyond number `after`, as they come. A later reader takes over from an earlier one."""
        self._reader += 1
        reader = self._reader
        self._heard = self._loop.time()
        self._news.set()  # the reader before finds that it is one no more
        after = min(after, self._number)
        yield [{"type": "session", "id": self.id, "grace": GRACE_SECONDS}]
        lost = self._number - after - len(self._after(after))
        if lost > 0:
            yield [{"type": "warning", "text": f"{lost} lines were lost while the connection was cut."}]
            after += lost
        while reader == self._reader:
            if found := self._after(after)[:AT_ONCE]:
                after = found[-1]["n"]
                yield found
                continue
            if self.ended.is_set():
                return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PING_SECONDS)
            except TimeoutError:
                yield [{"type": "ping"}]

    def _after(self, number: int) -> list[Event]:
        return list(islice(reversed(self._kept), max(0, self._number - number)))[::-1]

    def _keep(self, event: Event) -> None:
        self._number += 1
        self._kept.append({**event, "n": self._number})
        self._news.set()

    def _look(self) -> None:
        if self.ended.is_set() or self.abandoned.is_set():
            return
        left = self._heard + GRACE_SECONDS - self._loop.time()
        if left <= 0:
            self.goodbye()
        else:
            self._loop.call_later(left, self._look)
