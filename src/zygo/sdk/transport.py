"""How the control plane's client carries its requests: by hand to a socket on this machine, by the HTTP library to others.

The library takes 0.1 s to import and this machine's socket needs none of it: no names, no TLS, no redirects.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket as sockets
import sys
from typing import TYPE_CHECKING, Any, Protocol

from zygo import errors
from zygo.sdk import where
from zygo.sdk.door import Connection, Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType
    from typing import Callable

    import httpx

    from zygo.sdk.where import Remote

CONNECT_SECONDS = 30.0
"""For a connection to be made and a request to be sent."""


KEEP_SECONDS = 50.0
"""How long a connection is kept for the next save; the server closes it after 60 s."""


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

    async def aclose(self) -> None: ...


class LocalTransport:
    """To the server behind the unix socket at `path`: a connection for each request, which takes 50 microseconds."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, content: bytes | None, silence: float | None
    ) -> AsyncIterator[LocalReply]:
        """See Transport."""
        connection = await self._connect()
        try:
            reply = LocalReply(connection, f"{method} {path}", silence)
            await reply.begin(_head(method, path, content), content or b"")
            yield reply
        finally:
            connection.close()

    async def aclose(self) -> None:
        """Nothing is kept."""

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, self._path)
            _, connection = await loop.create_connection(lambda: Connection(loop), sock=sock)
        except OSError as error:
            sock.close()
            raise errors.ConnectionError(f"No server answers at {self._path}") from error
        return connection


class LocalReply:
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
        self._connection.send(head, body)
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


def _head(method: str, path: str, content: bytes | None) -> bytes:
    kind = "Content-Type: application/json\r\n" if content is not None and method != "PUT" else ""
    length = f"Content-Length: {len(content)}\r\n" if content is not None else ""
    return f"{method} {path} HTTP/1.1\r\nHost: zygo\r\nConnection: close\r\n{kind}{length}\r\n".encode()


class LibraryTransport:
    """To a server on another machine, over HTTPS with its token. Holds connections until `aclose`."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._http: httpx.AsyncClient | None = None

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, content: bytes | None, silence: float | None
    ) -> AsyncIterator[LibraryReply]:
        """See Transport."""
        httpx = _library()
        headers = {"content-type": "application/json"} if content is not None and method != "PUT" else None
        timeout = httpx.Timeout(CONNECT_SECONDS, read=silence)
        with self._mapped(method, path):
            async with self._client().stream(
                method, path, content=content, headers=headers, timeout=timeout
            ) as response:
                yield LibraryReply(response, lambda: self._mapped(method, path))

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            httpx, remote = _library(), self._remote
            self._http = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(
                    limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEP_SECONDS),
                    verify=where.tls(remote) or False,
                    socket_options=where.socket_options(),
                ),
                base_url=remote.name,
                headers={"authorization": f"Bearer {remote.token}"},
                trust_env=False,
            )
        return self._http

    @contextlib.contextmanager
    def _mapped(self, method: str, path: str) -> Iterator[None]:
        httpx = _library()
        try:
            yield
        except httpx.ConnectError as error:
            raise errors.ConnectionError(where.unreachable(self._remote, error)) from None
        except httpx.TimeoutException as error:
            raise errors.TimeoutError(f"{method} {path}: the server did not answer in time") from error
        except httpx.TransportError as error:
            raise errors.ConnectionError("The server went away") from error


class LibraryReply:
    """See Reply."""

    def __init__(self, response: httpx.Response, mapped: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._response = response
        # A stream may be read outside of the context that opened it: the library's errors get our names here, too.
        self._mapped = mapped

    @property
    def status(self) -> int:
        return self._response.status_code

    async def read(self) -> bytes:
        return await self._response.aread()

    async def chunks(self) -> AsyncIterator[bytes]:
        with self._mapped():
            async for chunk in self._response.aiter_bytes():
                yield chunk


def _library() -> ModuleType:
    """The HTTP library, without its own command line, which would be two thirds of the time of importing it."""
    if "httpx" not in sys.modules:
        # It tolerates that this module cannot be imported.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        try:
            importlib.import_module("httpx")
        finally:
            if sys.modules.get("httpx._main") is None:
                sys.modules.pop("httpx._main", None)
    return sys.modules["httpx"]
