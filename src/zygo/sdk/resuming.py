"""A session with a server on another machine, which goes on when its connection was cut.

The server numbers the events and keeps them until this side says that it has them. A connection that is lost is made again,
and the stream goes on behind the last number that came. The server ends the app when it hears nothing for a minute, so this
side speaks every few seconds; and when it ends it says so, whatever the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from zygo import errors
from zygo.sdk.client import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from zygo.sdk.client import Client

SPEAK_SECONDS = 10.0
"""Between two words to the server; its patience is 60 s."""

RESUME_SECONDS = 300.0
"""How long a lost connection is tried again. The app ends sooner; then a new session follows, which is no worse."""

PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each attempt; the last one before all further ones."""

GOODBYE_SECONDS = 2.0
"""For everything that is still said at the end, together: a server that is gone must not delay it."""

READY = 2
"""Connections that are had before they are needed: a save speaks of itself on one and goes over the other."""

LOST = (errors.ConnectionError, errors.TimeoutError)


class RemoteSession(Session):
    """A session: `id`, and `events()`, which ends when the server closes it. An async context manager.

    Entering raises what opening it raises. Leaving tells the server to end the app, unless the connection is lost.
    """

    resumable = True

    def __init__(self, client: Client, body: dict[str, Any]) -> None:
        super().__init__("", _nothing())
        self._client = client
        self._body = body
        self._seen = 0
        self._stack = contextlib.AsyncExitStack()
        self._connected = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None
        self._lost = False

    async def __aenter__(self) -> RemoteSession:
        await self._open(self._client.placed("/v1/sessions"), self._body)
        self._speaking = asyncio.ensure_future(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.keep_ready(0)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._goodbye(), GOODBYE_SECONDS)
        await self._close()

    async def _goodbye(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.wait([self._speaking])
        if not self._lost:
            with contextlib.suppress(errors.Error):
                await self._client.tell_session(self.id, "end", {}, GOODBYE_SECONDS)

    async def healthy(self) -> None:
        """Return once the connection is there (again)."""
        await self._connected.wait()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Every event but the pings, as they come, over as many connections as it takes.

        Raises ConnectionError when the session is gone, or the connection did not come back.
        """
        while True:
            try:
                async for event in self._lines:
                    self._seen = max(self._seen, int(event.get("n", 0)))
                    if event.get("type") != "ping":
                        yield event
                    if event.get("type") == "ended":
                        return
                reason: errors.Error = errors.ConnectionError("The server went away")
            except LOST as error:
                reason = error
            self._connected.clear()
            yield {"type": "warning", "text": f"{str(reason).rstrip('.')}. Taking the connection up again ..."}
            await self._resume()
            yield {"type": "warning", "text": "The connection is there again, and the app went on."}

    async def _resume(self) -> None:
        until, attempt = time.monotonic() + RESUME_SECONDS, 0
        while True:
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
            try:
                await self._close()
                await self._client.reconnect()
                await self._open(f"/v1/sessions/{self.id}/resume", {"after": self._seen})
                return
            except errors.NotFoundError:
                self._lost = True
                raise errors.ConnectionError("The server has ended the app meanwhile") from None
            except LOST:
                if time.monotonic() > until:
                    self._lost = True
                    raise

    async def _open(self, path: str, body: dict[str, Any]) -> None:
        stack = contextlib.AsyncExitStack()
        first, self._lines = await stack.enter_async_context(self._client.open_session(path, body))
        self._stack = stack
        self.id = str(first["id"])
        self._client.keep_ready(READY)
        self._connected.set()

    async def _close(self) -> None:
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(Exception):
            await stack.aclose()

    async def _speak(self) -> None:
        while True:
            await asyncio.sleep(SPEAK_SECONDS)
            await self._connected.wait()
            with contextlib.suppress(errors.Error):
                await self._client.tell_session(self.id, "seen", {"after": self._seen}, SPEAK_SECONDS)


async def _nothing() -> AsyncIterator[dict[str, Any]]:
    return
    yield {}
