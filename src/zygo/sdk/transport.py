"""How the control plane's client carries its requests: HTTP/1.1 by hand, as calls do (door.py), over a unix socket or over TCP.

this machine's server    a connection for each request, which takes 50 microseconds
one on another machine   connections are kept, and some are made ahead: a new one costs a way there and back through ssh, and
                         three with TLS
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Protocol

from zygo import errors
from zygo.sdk import where
from zygo.sdk.door import Connection, Lost, connect_tcp, connect_unix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from zygo.sdk.where import Remote

KEEP_SECONDS = 50.0
"""How long an idle connection is kept for the next request; the server closes it after 60 s."""

PIECE = 256 * 1024
"""Bytes of a body that are sent within one limit of silence: a large one over a slow line takes as long as it takes."""

KEPT = 8
"""Idle connections that are kept."""


class Reply(Protocol):
    """An answer: its status, and its body at once or as it comes."""

    @property
    def status(self) -> int: ...

    async def read(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


class Transport(Protocol):
    """Sends requests. Every wait is bounded by `silence` seconds (None: not at all), over which it raises TimeoutError; a
    server that is not there, or goes away, is a ConnectionError."""

    def open(
        self, method: str, path: str, content: bytes | None, silence: float | None
    ) -> contextlib.AbstractAsyncContextManager[Reply]: ...

    def keep_ready(self, count: int) -> None:
        """From now on have so many connections idle, made before they are needed."""

    async def aclose(self) -> None:
        """Close every connection, those at work and those being made, too; none is made after it. May be called twice."""


class LocalTransport:
    """To the server behind the unix socket at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextlib.asynccontextmanager
    async def open(self, method: str, path: str, content: bytes | None, silence: float | None) -> AsyncIterator[Answer]:
        """See Transport."""
        try:
            connection = await connect_unix(self._path)
        except OSError as error:
            raise errors.ConnectionError(where.silent(self._path, error)) from error
        try:
            answer = Answer(connection, f"{method} {path}", silence)
            await answer.begin(_head(method, path, content, b"Host: zygo\r\nConnection: close\r\n"), content or b"")
            yield answer
        finally:
            connection.close()

    def keep_ready(self, count: int) -> None:
        """A connection costs nothing here."""

    async def aclose(self) -> None:
        """Nothing is kept."""


class KeptTransport:
    """To a server on another machine.

    Arguments:
        dial: makes a connection. Raises ConnectionError.
        own: header lines of every request.
    """

    def __init__(self, dial: Callable[[], Awaitable[Connection]], own: bytes) -> None:
        self._dial, self._own = dial, own
        self._idle: deque[Connection] = deque()
        self._making: deque[asyncio.Future[Connection]] = deque()
        self._at_work: set[Connection] = set()
        self._ready = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def open(self, method: str, path: str, content: bytes | None, silence: float | None) -> AsyncIterator[Answer]:
        """See Transport."""
        connection = await self._take()
        self._at_work.add(connection)
        try:
            answer = Answer(connection, f"{method} {path}", silence)
            await answer.begin(_head(method, path, content, self._own), content or b"")
            yield answer
        finally:
            self._at_work.discard(connection)
            self._keep(connection)
            self._make_ahead()

    def keep_ready(self, count: int) -> None:
        """See Transport."""
        self._ready = count
        self._make_ahead()

    async def aclose(self) -> None:
        """See Transport."""
        self._closed = True
        making, self._making = list(self._making), deque()
        for task in making:
            task.cancel()
        if making:
            await asyncio.wait(making)
        for task in making:
            _close_made(task)
        for connection in (*self._idle, *self._at_work):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # asyncio closes a socket in its next turn, and this may be the loop's last one

    async def _take(self) -> Connection:
        # The one that has been idle for longest: so each is used now and then, and nothing on the way forgets it.
        if self._closed:
            raise errors.ConnectionError("The connection was closed meanwhile")
        self._forget()
        if self._idle:
            return self._idle.popleft()
        making = self._making.popleft() if self._making else asyncio.ensure_future(self._dial())
        try:
            await asyncio.wait({making})
        except asyncio.CancelledError:
            making.cancel()
            making.add_done_callback(_close_made)  # it may have been made at this very moment
            raise
        if self._closed:
            _close_made(making)
            raise errors.ConnectionError("The connection was closed meanwhile")
        return making.result()

    def _make_ahead(self) -> None:
        self._forget()
        while not self._closed and len(self._idle) + len(self._making) < self._ready:
            making = asyncio.ensure_future(self._dial())
            self._making.append(making)
            making.add_done_callback(self._made)

    def _made(self, making: asyncio.Future[Connection]) -> None:
        if making not in self._making:
            return  # a request waits for it, or it is being closed
        self._making.remove(making)
        # Why it could not be made is told by the request that needs one.
        if not making.cancelled() and making.exception() is None:
            self._keep(making.result())

    def _keep(self, connection: Connection) -> None:
        if self._closed or not connection.reusable or len(self._idle) >= KEPT:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def _forget(self) -> None:
        """Leave out the idle connections that are not good any more."""
        known, self._idle = self._idle, deque()
        for connection in known:
            if connection.closed or time.monotonic() - connection.idle_since > KEEP_SECONDS:
                connection.close()
            else:
                self._idle.append(connection)


def _close_made(making: asyncio.Future[Connection]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()


def tunnelled(path: str) -> KeptTransport:
    """To the server whose control socket ssh has brought to `path`."""

    async def dial() -> Connection:
        try:
            return await connect_unix(path)
        except OSError as error:
            raise errors.ConnectionError(where.silent(path, error)) from error

    return KeptTransport(dial, b"Host: zygo\r\n")


def over_tcp(remote: Remote) -> KeptTransport:
    """To a server over HTTPS, with its token."""
    made: list[Any] = []

    async def dial() -> Connection:
        made[:] = made or [where.tls(remote)]  # reading all authorities takes 20 ms
        return await connect_tcp(remote, made[0])

    host = remote.name.partition("//")[2]
    return KeptTransport(dial, f"Host: {host}\r\nAuthorization: Bearer {remote.token}\r\n".encode())


class Answer:
    """See Reply."""

    def __init__(self, connection: Connection, what: str, silence: float | None) -> None:
        self._connection = connection
        self._what = what
        self._silence = silence

    @property
    def status(self) -> int:
        return self._connection.status

    async def begin(self, head: bytes, body: bytes) -> None:
        """Send the request and wait for the head of the answer."""
        self._connection.send(head, body[:PIECE])
        await self._bounded(self._connection.drained())
        for at in range(PIECE, len(body), PIECE):
            if not self._connection.send_more(body[at : at + PIECE]):
                break
            await self._bounded(self._connection.drained())
        await self._bounded(self._connection.answered())

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self._bounded(self._connection.read()):
            yield data

    async def _bounded(self, waiting: Any) -> Any:
        try:
            return await asyncio.wait_for(waiting, self._silence)
        except asyncio.TimeoutError:
            raise errors.TimeoutError(f"{self._what}: the server did not answer in time") from None
        except Lost as error:
            raise errors.ConnectionError("The server went away") from error


def _head(method: str, path: str, content: bytes | None, own: bytes) -> bytes:
    kind = "Content-Type: application/json\r\n" if content is not None and method != "PUT" else ""
    length = f"Content-Length: {len(content)}\r\n" if content is not None else ""
    return b"%b%b%b\r\n" % (f"{method} {path} HTTP/1.1\r\n".encode(), own, f"{kind}{length}".encode())
