"""The gateway: its listeners, its connections, the routes they use, and the one sweep that keeps every deadline."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import dataclass, replace
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zygo.gateway.client import CALLS_PORT, ClientConnection
from zygo.gateway.exchange import Exchange
from zygo.gateway.forwarded import TrustedProxies
from zygo.gateway.long import Kept, LongExchange
from zygo.gateway.routes import Endpoint, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from zygo.gateway.certificates import Certificates
    from zygo.gateway.upstream import Upstream

log = logging.getLogger(__name__)

BACKLOG = 4095
PORTS_TRIED = 100
HANDSHAKE = 10.0
"""Seconds that a client has for its TLS handshake."""

SWEEP = 0.25
"""Seconds between two looks at the deadlines, at most. One sweep over 10,000 connections takes about a millisecond; a
timer per request would cost each of them more than all sweeps together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client may keep us waiting, in seconds."""

    head: float = 30.0
    body_idle: float = 60.0
    keep_alive: float = 75.0
    half_closed: float = 0.5
    linger: float = 5.0
    flush: float = 60.0


class Gateway:
    """Serves HTTP/1.1 on any number of ports by the table in `routes`, which may be replaced at any time.

    `max_body` bounds a request's body in bytes where its endpoint does not. `trusted_proxies` are the addresses or
    networks whose X-Forwarded headers are believed. A request that has no answer after `response_wait` seconds is answered
    303 and fetched by another one (long.py); 0 for never. With `tunnels_end` a function's timeout ends tunnels, however much they
    are in use; otherwise only silence of that length does. Holds its listeners and connections until `close`.
    """

    def __init__(
        self,
        *,
        routes: Routes | None = None,
        max_body: int = 4 * 2**30,
        limits: Limits | None = None,
        trusted_proxies: Iterable[str] = (),
        response_wait: float = 0.0,
        tunnels_end: bool = False,
    ) -> None:
        self.routes = routes or Routes()
        self.functions = Routes()
        """The table of the listeners for calls: function id instead of hostname. No request from a port sees it."""
        self.max_body = max_body
        self.limits = limits or Limits()
        self.response_wait = response_wait
        self.tunnels_end = tunnels_end
        self.exchange: type[Exchange] = LongExchange if response_wait else Exchange
        self.kept = Kept()
        self.proxies = TrustedProxies(trusted_proxies)
        self.connections: set[ClientConnection] = set()
        self.settling: dict[Exchange, Upstream] = {}
        self.closed = False
        self.holding = False
        """Whether no request is started yet."""
        self.secure_port = 0
        """Where TLS is spoken; 0 for nowhere."""
        self.redirected_port: int | None = None
        """The plain port whose requests are sent to the secure one; None for none: calls come in on a number, too."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._listeners: dict[int, asyncio.Server] = {}
        self._call_listeners: dict[Path, asyncio.Server] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()

    # -- listeners --------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 8000) -> int:
        """Listen on `port`, or on the next free one after it; 0 for any. Returns the port. Raises OSError."""
        for candidate in range(port, min(port + PORTS_TRIED, 65536)) if port else (0,):
            try:
                return await self._listen(host, candidate)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        return await self._listen(host, 0)

    async def add_listener(self, port: int, endpoint: Endpoint | None = None, *, host: str = "127.0.0.1") -> int:
        """Listen on a function's own `port` too, 0 for any; with `endpoint`, route the port to it. Returns the port.

        Raises OSError when the port is taken.
        """
        port = await self._listen(host, port)
        if endpoint is not None:
            self.routes = replace(self.routes, ports=MappingProxyType({**self.routes.ports, port: endpoint}))
        return port

    async def listen_securely(self, host: str, port: int, certificates: Certificates) -> int:
        """Speak TLS on `port`, 0 for any. Returns the port. Raises OSError when it is taken."""
        options = {"ssl_handshake_timeout": HANDSHAKE, "ssl_shutdown_timeout": self.limits.flush}
        self.secure_port = await self._listen(host, port, ssl=certificates.context, **options)
        return self.secure_port

    async def listen_for_calls(self, path: Path, mode: int) -> None:
        """Take calls of functions on a unix socket at `path`, whose file gets `mode`. Raises OSError."""
        sock = _bind(path, mode)
        server = await self.loop.create_unix_server(
            lambda: ClientConnection(self, CALLS_PORT), sock=sock, backlog=BACKLOG
        )
        self._call_listeners[path] = server

    def hold(self) -> None:
        """Take connections and start no request, until `release`: the routes are not known yet, and a 404 would be a lie."""
        self.holding = True

    def release(self) -> None:
        """Start what came. May be called twice."""
        self.holding = False
        for connection in list(self.connections):
            connection.resume_writing()

    def remove_listener(self, port: int) -> None:
        """Stop listening on `port` and forget its route; connections that are open there finish what they serve."""
        server = self._listeners.pop(port, None)
        if server is not None:
            server.close()
        if port in self.routes.ports:
            ports = {key: value for key, value in self.routes.ports.items() if key != port}
            self.routes = replace(self.routes, ports=MappingProxyType(ports))
        for connection in list(self.connections):
            if connection.port == port:
                connection.drain()

    async def close(self, grace: float = 0.0) -> None:
        """Stop listening, let requests in flight finish for `grace` seconds, then cut what is left."""
        self.closed = True
        for server in (*self._listeners.values(), *self._call_listeners.values()):
            server.close()
        for path in self._call_listeners:
            path.unlink(missing_ok=True)
        self._listeners.clear()
        self._call_listeners.clear()
        self.kept.close()
        for connection in list(self.connections):
            connection.drain()
        if grace > 0 and self.connections:
            try:
                await asyncio.wait_for(self._empty.wait(), grace)
            except TimeoutError:
                log.warning("%d connections were cut at the end of the grace period", len(self.connections))
        for connection in list(self.connections):
            connection.abort()
        for exchange, upstream in list(self.settling.items()):
            upstream.settling = None
            upstream.abort()
            exchange.settled(upstream)
        await self._empty.wait()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def _listen(self, host: str, port: int, **tls: Any) -> int:
        bound, secure = [port], bool(tls)

        def connection() -> ClientConnection:
            return ClientConnection(self, bound[0], secure=secure)

        server = await self.loop.create_server(connection, host, port, backlog=BACKLOG, **tls)
        bound[0] = int(server.sockets[0].getsockname()[1])
        self._listeners[bound[0]] = server
        return bound[0]

    # -- connections ------------------------------------------------------------------------------------------------

    def joined(self, connection: ClientConnection) -> None:
        """A client connected."""
        self.connections.add(connection)
        self._empty.clear()
        self.watch()

    def watch(self) -> None:
        """There is a deadline to keep."""
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP, self._sweep)

    def left(self, connection: ClientConnection) -> None:
        """A client's connection ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _sweep(self) -> None:
        now = monotonic()
        nearest = now + SWEEP
        for connection in [c for c in self.connections if c.deadline < nearest]:
            if connection.deadline <= now:
                try:
                    connection.overdue(now)
                except Exception:
                    log.exception("a connection failed on its deadline")
                    connection.abort()
            if now < connection.deadline < nearest:
                nearest = connection.deadline
        for exchange, upstream in list(self.settling.items()):
            if exchange.deadline <= now:
                exchange.settle_expired(upstream)
        if self.connections or self.settling:
            self._sweeper = self.loop.call_later(max(0.01, nearest - now), self._sweep)
        else:
            self._sweeper = None


def _bind(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock
