"""Requests of the server's own to containers: one POST, one answer that is held whole.

The rest of the gateway passes bodies through and never has one; a call whose result is to be recorded has to. Connections
are kept for the next request to the same container and end when it does.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpResponseParser

if TYPE_CHECKING:
    from zygo.gateway.container import Backend

MAX_ANSWER = 256 * 2**20
"""Bytes of one answer."""


class NotReachedError(Exception):
    """Nothing was sent: the container does not take connections."""


class DiedError(Exception):
    """The connection ended before the answer was complete. The text says how."""


class TooLargeError(Exception):
    """The answer is larger than MAX_ANSWER."""


class Connection(asyncio.Protocol):
    """One connection to a container; `answer` is what came for the request that was sent last: (status, body)."""

    def __init__(self, owner: Connections, backend: Backend) -> None:
        self.backend = backend
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._complete = False

    def send(self, head: bytes, body: bytes) -> None:
        """Begin a request; `answer` is a new future from now on. `head` ends with its last header."""
        assert self._transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self._parser, self._body, self._size, self._complete = HttpResponseParser(self), [], 0, False
        self._transport.writelines([head, b"Content-Length: %d\r\n\r\n" % len(body), body])

    def leave(self) -> None:
        """Tell the container that nobody waits for the answer; it ends the connection once its code has."""
        if self._transport is not None and not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        """End the connection now. May be called twice."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._owner.forget(self)
        self._fail(DiedError("the container died"))

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(DiedError(f"the container's answer is not HTTP ({error})"))
            self.abort()
            return
        if self._size > MAX_ANSWER:
            self._fail(TooLargeError(f"its result is larger than {MAX_ANSWER // 2**20} MiB"))
            self.abort()
        elif self._complete:
            parser, self._parser = self._parser, None
            if not self.answer.done():
                self.answer.set_result((parser.get_status_code(), b"".join(self._body)))
            self._body = []
            if parser.should_keep_alive():
                self._owner.keep(self)
            else:
                self.abort()

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # seen: nobody may be waiting any more

    # -- the parser's side ----------------------------------------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_ANSWER:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True


class Connections:
    """The idle connections, by container."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = {}

    async def open(self, backend: Backend) -> Connection:
        """A connection on which nothing is under way. Raises NotReachedError."""
        idle = self._idle.get(backend.id)
        if idle:
            return idle.pop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # The kernel decides at once whether a unix socket takes a connection.
            sock.connect(backend.path)
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_unix_connection(lambda: Connection(self, backend), sock=sock)
        except OSError as error:
            sock.close()
            raise NotReachedError(error.strerror or str(error)) from None
        return connection

    def keep(self, connection: Connection) -> None:
        """It may carry another request."""
        if connection.backend.accepting:
            self._idle.setdefault(connection.backend.id, []).append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        idle = self._idle.get(connection.backend.id, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.backend.id, None)

    def close(self) -> None:
        """End every idle connection."""
        for connection in [each for idle in self._idle.values() for each in idle]:
            connection.abort()
