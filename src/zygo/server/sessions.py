"""What a `zygo serve`, a `zygo run` or an `app.run()` holds open: one ephemeral app, for exactly as long as its connection.

A detached one outlives its connection by what is still to be done.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Event = dict[str, Any]

PING_SECONDS = 5.0
MAX_EVENTS = 10_000
"""Events that may wait for a terminal that does not read; later ones are dropped, and it is told how many."""

MAX_OUTPUT = 200_000
"""The same for a program that is run: what its functions print is its result. Some 60 MB."""
AT_ONCE = 100
"""Events that are written in one piece, so that a burst of lines is not as many writes."""


class Session:
    """A stream of events to one client.

    Arguments:
        running: it is a program's that runs, and not a `serve`.
        detached: the app goes on when the client is gone.

    `ended` is set when the client is gone or the server has ended it; whoever owns the app waits for it. `abandoned` is
    set instead when the client of a detached one is gone.
    """

    def __init__(self, app: str, file: str, *, running: bool = False, detached: bool = False) -> None:
        self.id = f"ap-{secrets.token_hex(8)}"
        self.app = app
        self.file = file
        self.detached = detached
        self.ended = asyncio.Event()
        self.abandoned = asyncio.Event()
        self._most = MAX_OUTPUT if running else MAX_EVENTS
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._dropped = 0

    def emit(self, event: Event) -> None:
        """Queue an event; never waits."""
        if self.ended.is_set() or self.abandoned.is_set():
            return
        if self._queue.qsize() >= self._most:
            self._dropped += 1
            return
        if self._dropped:
            self._queue.put_nowait(
                {"type": "warning", "text": f"{self._dropped} lines were dropped: the terminal does not keep up."}
            )
            self._dropped = 0
        self._queue.put_nowait(event)

    def log(self, function: str, container: str, stream: str, text: str) -> None:
        """Queue one line of output."""
        self.emit(
            {
                "type": "log",
                "time": time.time(),
                "function": function,
                "container": container,
                "stream": stream,
                "text": text,
            }
        )

    def end(self, reason: str, code: str = "ended") -> None:
        """End it from our side; the client is told why. May be called twice.

        `code`: "replaced" when another server is about to take this one's place (the client comes back to that one),
        "stopped" when this one stops for good, "ended" otherwise.
        """
        if not self.ended.is_set():
            self._queue.put_nowait({"type": "ended", "reason": reason, "code": code})
            self._queue.put_nowait(None)
            self.ended.set()

    def client_gone(self) -> None:
        """Its connection has ended: so does it, unless it is detached."""
        if self.detached:
            self.abandoned.set()
            self._queue = asyncio.Queue()
        else:
            self.end("its command is gone")

    async def events(self, after: int = 0) -> AsyncIterator[list[Event]]:
        """The events, as many at a time as have come, with a ping when nothing happens; ends after `end`, or when the consumer
        goes away."""
        yield [{"type": "session", "id": self.id}]
        ended = False
        while not ended:
            try:
                found = [await asyncio.wait_for(self._queue.get(), PING_SECONDS)]
            except TimeoutError:
                found = [{"type": "ping"}]
            while not self._queue.empty() and len(found) < AT_ONCE:
                found.append(self._queue.get_nowait())
            ended = None in found
            if events := [event for event in found if event is not None]:
                yield events
