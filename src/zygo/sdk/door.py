"""The way to the server for calls: HTTP/1.1 by hand, over a unix socket, through ssh to one, or over TCP with a token.

An HTTP library would take longer to import than a program that calls one function takes altogether, and half a millisecond for
each request. This speaks to one server, ours: no redirects, no compression, no names to resolve. Connections are kept and
reused; one carries one request at a time, and closing it tells the server that its caller has left.
"""

from __future__ import annotations

import asyncio
import platform
import socket as sockets
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from zygo import errors, paths
from zygo.sdk import context, where

if TYPE_CHECKING:
    from zygo.sdk.where import Remote

CONNECT_SECONDS = 15.0

ADDRESS_SECONDS = 3.0
"""For one of several addresses of a name to answer before the next is tried: IPv6 is often announced and not there."""

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from zygo.sdk.large import Stored

KEPT = 64
"""Idle connections that are kept for each event loop."""

IDLE_SECONDS = 20.0
"""How long a connection over TCP is kept: on the way there may be things that forget it without a word."""
SETTLE_SECONDS = 30.0
"""How long the end of an answer is awaited: code that was stopped has 5 s to obey."""

READ_AHEAD = 1024 * 1024
"""Bytes of an answer that are held while nobody takes them; then reading stops."""

_PYTHON = platform.python_version()


class Refused(errors.Error):
    """The server's own answer in place of the function's: its status, text and details."""

    def __init__(self, status: int, text: str, details: str) -> None:
        super().__init__(text)
        self.status = status
        self.details = details


class Lost(errors.ConnectionError):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """One connection, and the answer that comes on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = True
        self.closed = False
        self.idle_since = 0.0
        self._loop = loop
        self._head = b""
        self._left = 0
        self._chunked = False
        self._chunk = bytearray()
        self._body: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._paused = False
        self._keep = True

    # -- the caller's side ----------------------------------------------------------------------------------------------

    def send(self, head: bytes, body: bytes) -> None:
        """Begin a request with all of its body."""
        assert self.transport is not None
        self.status, self.headers, self.complete, self._keep = 0, {}, False, True
        self._head, self._chunked, self._left = b"", False, 0
        self._chunk.clear()
        self._body.clear()
        self._size = 0
        if len(body) < 16384:
            self.transport.write(head + body)
        else:
            self.transport.writelines([head, body])

    async def send_rest(self, tail: Stored) -> None:
        """Send what follows, as fast as it is taken; not to its end when the server answers before."""
        for chunk in tail.chunks():
            if not self.send_more(chunk):
                return
            await self.drained()

    def send_more(self, data: bytes) -> bool:
        """Send what follows of the body; False when the server has answered already, or is gone."""
        if self.closed or self.status:
            self._keep = False
            return False
        assert self.transport is not None
        self.transport.write(data)
        return True

    async def answered(self) -> None:
        """Wait for the head of the answer. Raises Lost."""
        while not self.status:
            await self._wait()

    async def read(self) -> bytes:
        """What came of the body since the last call; b"" at its end. Raises Lost when the connection ends before that."""
        while not self._body:
            if self.complete:
                return b""
            await self._wait()
        data = self._body.popleft() if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._size = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def drained(self) -> None:
        """Wait until what was written is nearly sent."""
        if self._drain is not None:
            await self._drain

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        return self.complete and self._keep and not self.closed

    def close(self) -> None:
        """End the connection, whatever is under way on it."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    async def _wait(self) -> None:
        if self.closed:
            raise Lost("The server closed the connection before the answer was complete.")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- asyncio's side -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._drain = None

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self.close()  # nobody asked
            return
        if not self.status:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end], self._head[end + 4 :]
            self._begin(head)
        if self._chunked:
            self._take_chunks(data)
        elif data:
            self._left -= len(data)
            self._add(data)
            self.complete = self._left <= 0
        self._wake()

    def _begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ", 2)[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self._keep = self._keep and self.headers.get("connection", "").lower() != "close"
        self._chunked = "transfer-encoding" in self.headers
        self._left = int(self.headers.get("content-length", "0"))
        self.complete = not self._chunked and self._left == 0

    def _take_chunks(self, data: bytes) -> None:
        chunk = self._chunk
        chunk += data
        at = 0
        while True:
            line = chunk.find(b"\r\n", at)
            if line < 0:
                break
            size = int(chunk[at:line].split(b";")[0], 16)
            end = line + 2 + size + 2
            if end > len(chunk):
                break
            at = end
            if not size:
                self.complete = True
                break
            self._add(bytes(chunk[line + 2 : end - 2]))
        del chunk[:at]

    def _add(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)
        if self._size > READ_AHEAD and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Door:
    """The connections of one event loop, to the socket at `path`, or to a server on another machine."""

    def __init__(self, path: str, remote: Remote | None = None) -> None:
        self.path = path
        self.remote = remote
        self.life: AsyncGenerator[None, None] | None = None
        self._idle: list[Connection] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._tls: Any = where.tls(remote) if remote is not None else None
        self._own = b""
        if remote is not None and remote.scheme != "ssh":
            self._own = b"Authorization: Bearer %b\r\n" % remote.token.encode()

    async def request(
        self, method: str, host: str, target: str, body: bytes, headers: bytes = b"", tail: Stored | None = None
    ) -> Connection:
        """Send a request and wait for the answer's head. The connection is to be given to `release`. `tail` follows `body`.

        `host` is a function's id, or "zygo" for the server itself. Raises Refused, Lost, ConnectionError.
        """
        if self._own and self.remote is not None:
            target, host = f"/calls/{host}{target}", self.remote.host
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\nContent-Length: %d\r\n%b%b\r\n" % (
            method.encode(),
            target.encode(),
            host.encode(),
            len(body) + (0 if tail is None else len(tail)),
            self._own,
            headers,
        )
        connection = await self._connection()
        try:
            connection.send(head, body)
            if tail is not None:
                await connection.send_rest(tail)
            await connection.answered()
            if connection.status >= 400:
                raise refusal(connection.status, await read_all(connection), connection.headers)
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """The answer was read, or is not wanted: then the server hears that its caller left."""
        if connection.reusable and len(self._idle) < KEPT:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def settle(self, connection: Connection) -> None:
        """Its caller has what it wanted, and the answer may not be at its end: the server must not take that for a caller
        who left, and the container may still be ending code that was stopped."""
        if connection.complete or connection.closed:
            self.release(connection)
            return
        task = asyncio.get_running_loop().create_task(self._read_on(connection))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _read_on(self, connection: Connection) -> None:
        try:
            await asyncio.wait_for(read_all(connection), SETTLE_SECONDS)
        except (Lost, asyncio.TimeoutError):
            pass
        finally:
            self.release(connection)

    def close(self) -> None:
        """End the connections that serve no caller."""
        for task in self._settling:
            task.cancel()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if self._own and time.monotonic() - connection.idle_since > IDLE_SECONDS:
                connection.close()
            if not connection.closed:
                return connection
        if self.remote is not None:
            return await self._connect(self.remote)
        return await self._connect_unix(self.path)

    async def _connect(self, remote: Remote) -> Connection:
        if remote.scheme == "ssh":
            from zygo.sdk import ssh

            return await self._connect_unix((await asyncio.to_thread(ssh.tunnel, remote)).calls)
        return await connect_tcp(remote, self._tls)

    async def _connect_unix(self, path: str) -> Connection:
        try:
            return await connect_unix(path)
        except OSError as error:
            raise _unreachable(path, error) from error


async def connect_unix(path: str) -> Connection:
    """A connection to the unix socket at `path`. Raises OSError."""
    loop = asyncio.get_running_loop()
    made = Connection(loop)
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        await loop.create_connection(lambda: made, sock=sock)
    except BaseException:
        made.close()
        sock.close()
        raise
    return made


async def connect_tcp(remote: Remote, tls: Any) -> Connection:
    """A connection to `remote` with the SSLContext `tls`, or without. Raises ConnectionError."""
    made = Connection(asyncio.get_running_loop())
    try:
        await asyncio.wait_for(_connect_to(remote, made, tls), CONNECT_SECONDS)
    except (OSError, asyncio.TimeoutError) as error:
        made.close()
        raise errors.ConnectionError(where.unreachable(remote, error)) from None
    except BaseException:
        made.close()
        raise
    return made


async def _connect_to(remote: Remote, made: Connection, tls: Any) -> None:
    # By hand: asyncio's own way of trying several addresses at once forgets sockets when it is cancelled.
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(remote.host, remote.tcp_port, type=sockets.SOCK_STREAM)
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        sock = sockets.socket(family, kind, protocol)
        last = number == len(found)
        try:
            sock.setblocking(False)
            for option in where.socket_options():
                sock.setsockopt(*option)
            await asyncio.wait_for(loop.sock_connect(sock, address), None if last else ADDRESS_SECONDS)
            await loop.create_connection(
                lambda: made, sock=sock, ssl=tls, server_hostname=remote.host if tls is not None else None
            )
            return
        except (OSError, asyncio.TimeoutError):
            sock.close()
            if last:
                raise
        except BaseException:
            sock.close()
            raise


_doors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Door] = weakref.WeakKeyDictionary()


async def door() -> Door:
    """The door of the running event loop."""
    path, remote = context.server_socket() or "", None
    if not path:
        remote = where.server()
        path = paths.calls_socket() if remote is None else remote.name
    loop = asyncio.get_running_loop()
    found = _doors.get(loop)
    if found is None or found.path != path or found.remote != remote:
        if found is not None:
            found.close()
        found = _doors[loop] = Door(path, remote)
        # The loop ends its async generators when it ends itself (asyncio.run does), and with this one the connections.
        found.life = _close_at_end(weakref.ref(found))
        await found.life.__anext__()
    return found


async def _close_at_end(door: weakref.ref[Door]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        found = door()
        if found is not None:
            found.close()


async def read_all(connection: Connection) -> bytes:
    """The whole body."""
    parts = []
    while data := await connection.read():
        parts.append(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def call_headers(call_id: str) -> bytes:
    """The headers of a call's request."""
    return b"Zygo-Call: %b\r\nZygo-Python: %b\r\n" % (call_id.encode(), _PYTHON.encode())


def refusal(status: int, body: bytes, headers: dict[str, str]) -> errors.Error:
    """The error of an answer that is the server's own."""
    import json

    said: Any = {}
    try:
        said = json.loads(body)["error"]
        if "kind" in said:
            return errors.from_json(said)
    except (ValueError, KeyError, TypeError):
        pass
    if status == 401:
        return errors.AuthError(
            "The server does not accept the token: it is wrong, deleted, rotated or expired. Give another as ZYGO_TOKEN."
        )
    text = str(said.get("message") or body[:500].decode("utf-8", "replace")).removeprefix("zygo: ")
    return Refused(status, text, str(said.get("details") or ""))


def _unreachable(path: str, error: OSError) -> errors.ConnectionError:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return errors.ConnectionError(
            f"No zygo server answers at {path}. Start one with `zygo server start`, or `zygo serve FILE`; set "
            f"ZYGO_RUNTIME_DIR when it runs elsewhere."
        )
    return errors.ConnectionError(f"The zygo server at {path} cannot be reached: {error.strerror or error}.")
