"""Serving one ASGI application on a listening socket that the server made, with uvicorn's protocol classes.

uvicorn's own `Server` binds, installs signal handlers and polls; a container is handed its socket, is init of its pid
namespace and says "ready" on its control socket, so only the protocol, the lifespan and the drain are used.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Callable

# Imported ahead, so that Config.load() finds in every container what it would look up by name.
import uvicorn.lifespan.off
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.middleware.proxy_headers
import uvicorn.protocols.http.httptools_impl
import uvicorn.protocols.websockets.auto  # noqa: F401
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from zygo import wire
from zygo.guest import leaving, tracebacks

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zygo.guest.runner import Place
    from zygo.guest.service import Served
    from zygo.guest.tunnel import Tunnel

try:
    import uvloop
except ImportError:  # pragma: no cover - a Python for which there is no wheel
    uvloop = None  # type: ignore[assignment,unused-ignore]

_KEEP_ALIVE = 7 * 24 * 3600
"""Seconds. Only the gateway closes idle connections: with uvicorn's 5 s a reused one could close under a request."""

_REAP_EVERY = 5.0
"""Seconds between looks for orphans. A process that exited is left alone for one such time: its parent may be about
to ask for its status."""

_BACKLOG = 4095


class StartupFailed(Exception):
    """The application's lifespan startup failed; the text is its traceback."""


class _State(ServerState):
    """Adds the Date header, made once per second instead of by a timer in an otherwise idle process."""

    _second = 0
    _headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - replaced, never changed

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override,unused-ignore]
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._headers = [(b"date", formatdate(now, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, value: Any) -> None:
        """Assigned by the base class's constructor."""


class _Handler(logging.Handler):
    """Writes uvicorn's messages to stderr, exceptions trimmed to the user's frames, and keeps the last."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = tracebacks.trim(record.getMessage().rstrip(), sys.path[0])
        if text.startswith("Application startup failed"):
            return  # the reason came before it, and is what StartupFailed tells
        if record.exc_info and record.exc_info[1] is not None:
            text = tracebacks.describe(record.exc_info[1], sys.path[0])[0].rstrip()
        self.last = text
        print(text, file=sys.stderr, flush=True)


_handler = _Handler()


def take_logger() -> None:
    """Have uvicorn's messages, whatever the user's module did to logging while it was imported."""
    logger = logging.getLogger("uvicorn.error")
    if logger.handlers != [_handler] or logger.level != logging.WARNING:
        logger.handlers = [_handler]
        logger.setLevel(logging.WARNING)
    logger.propagate = False


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, but for a client that leaves while its request is being served.

    The gateway then closes its half. uvicorn would close the other half at once, and the gateway would take the container
    for idle while a handler still runs in it. Here the application hears of the disconnect at once, and the connection is
    closed once it is done (`_closing`).
    """

    def eof_received(self) -> bool | None:  # type: ignore[override]
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return None
        watched = leaving.watched(cycle)
        cycle.disconnected = True
        cycle.message_event.set()
        _tell_left(cycle, watched)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        cycle = self.cycle
        watched = cycle is not None and leaving.watched(cycle)
        super().connection_lost(exc)
        if cycle is not None and not cycle.response_complete:
            _tell_left(cycle, watched)


def _tell_left(cycle: Any, watched: bool) -> None:
    """Tell who asked for it (guest/calls.py) that the client has left; cancel a handler, unless its application is told so
    by the message that it waits for."""
    then = getattr(cycle, "on_left", None)
    if then is not None and not (watched and isinstance(then, leaving.Cancelling)):
        then()


def _closing(app: Callable[..., Any]) -> Callable[..., Any]:
    """`app`, cancelled for a request whose client has left, whose connection is closed once it is done with it."""

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and (scope.get("server") or (None, None))[1] is None:
            # Behind a unix socket uvicorn knows none, or has the socket's path; applications make URLs of it.
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            scope["server"] = _server(host, scope["scheme"])
        cycle = getattr(receive, "__self__", None)
        if not isinstance(cycle, RequestResponseCycle):
            await app(scope, receive, send)
            return
        left = leaving.Cancelling(cycle)
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not left.cancelled:
                raise
        finally:
            if cycle.disconnected:
                cycle.transport.close()

    return closing


@functools.lru_cache(64)
def _server(host: bytes, scheme: str) -> tuple[str, int] | None:
    """Name and port that the caller asked for, by the Host header; None without one."""
    name, colon, port = host.decode("latin-1").rpartition(":")
    if not colon or not port.isdigit():
        name, port = host.decode("latin-1"), "443" if scheme in ("https", "wss") else "80"
    return (name.strip("[]"), int(port)) if name else None


def configure(asgi: Callable[..., Any], *, lifespan: bool) -> Config:
    """uvicorn's configuration for `asgi`. It holds no loop and no socket, so a fork server makes it once for all.

    `lifespan`: whether the application may have a startup and a shutdown.
    """
    config = Config(
        _closing(asgi),
        interface="asgi3",
        lifespan="auto" if lifespan else "off",
        http=_Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        forwarded_allow_ips="*",
        timeout_keep_alive=_KEEP_ALIVE,
        ws_ping_interval=None,
        ws_max_size=128 * 2**20,
        backlog=_BACKLOG,
    )
    config.load()
    return config


class Host:
    """This process's event loop and listening socket, from before it has an application until its end.

    Arguments:
        listener: the listening socket, made by the server; not accepted from before the application is ready.
        control: the socket to the server; when it ends, so does this process.
        grace: seconds that requests in flight have once it was told to stop.
        config: for the application, when the fork server has made it.
    """

    def __init__(
        self, listener: socket.socket, control: socket.socket, grace: float, config: Config | None = None
    ) -> None:
        self._listener = listener
        self._control = control
        self._grace = grace
        self._config = config
        self._state = _State()
        self._loop: asyncio.AbstractEventLoop = (
            uvloop.new_event_loop() if uvloop is not None else asyncio.new_event_loop()
        )
        asyncio.set_event_loop(self._loop)
        self._stop = asyncio.Event()
        take_logger()

    def configure(self, config: Config | None) -> None:
        """Serve with this configuration; None: make one for what `serve` gets."""
        self._config = config

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the loop that serves, before it does or after; its result."""
        return self._loop.run_until_complete(work)

    def park(self, app: Served | None) -> dict[str, Any] | None:
        """Wait, as a spare, to be needed. The message that says so, None when it never will be.

        With `app`, whose application is ours, everything is made ready and one request goes through it to a route of
        ours: the pages that a first request touches are copied now, which is most of its time.
        """
        return self._loop.run_until_complete(self._park(app))

    def tunnel(self, tunnel: Tunnel) -> None:
        """Serve a server of the user's until SIGTERM, until the control socket ends or until it has died, then drain."""
        self._loop.run_until_complete(self._tunnel(tunnel))

    async def _tunnel(self, tunnel: Tunnel) -> None:
        self._loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        protocol = tunnel.open(self._stop.set)
        server = await self._listen(protocol)
        await self._stop.wait()
        self._loop.remove_reader(self._control)
        server.close()
        await tunnel.drain(self._grace)

    async def _listen(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.AbstractServer:
        """Accept connections, and say so."""
        self._loop.add_reader(self._control, self._stop.set)
        self._listener.setblocking(False)
        server = await self._loop.create_unix_server(protocol, sock=self._listener, backlog=_BACKLOG)
        if os.getpid() == 1:
            self._loop.call_later(_REAP_EVERY, _reap_orphans, self._loop, 0)
        gc.enable()
        wire.send(self._control, {"type": "ready"})
        return server

    def serve(self, asgi: Callable[..., Any], *, lifespan: bool, beside: Place | None = None) -> None:
        """Serve `asgi` until SIGTERM or until the control socket ends, then drain. Raises StartupFailed.

        `lifespan`: whether the application may have a startup and a shutdown. `beside` has this thread meanwhile; the loop
        is in another one.
        """
        if beside is None:
            self._loop.run_until_complete(self._serve(asgi, lifespan))
        else:
            self._serve_beside(asgi, lifespan, beside)

    def _serve_beside(self, asgi: Callable[..., Any], lifespan: bool, beside: Place) -> None:
        # Code that asks for this thread's loop gets one of its own, not ours, which runs elsewhere.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(None)
        # This thread may be in the user's C code, or about to wait: only the descriptor that Python's own handler writes to,
        # in whatever thread, is sure to be seen.
        signals, wakeup = socket.socketpair()
        signals.setblocking(False)
        wakeup.setblocking(False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        self._loop.add_reader(signals, self._signalled, signals)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self._loop.run_until_complete(self._serve(asgi, lifespan))
            except BaseException as error:
                failed.append(error)
            finally:
                beside.end()

        thread = threading.Thread(target=run, name="zygo", daemon=True)
        thread.start()
        beside.run()
        thread.join()
        signal.set_wakeup_fd(-1)
        if failed:
            raise failed[0]

    def _signalled(self, signals: socket.socket) -> None:
        if signal.SIGTERM in signals.recv(512):
            self._stop.set()

    async def _park(self, app: Served | None) -> dict[str, Any] | None:
        if app is not None:
            # Only a matter of speed: whatever goes wrong here will be said when a request meets it.
            with suppress(Exception), app.warm_route() as request:
                if app.asgi is not None and request is not None:
                    await self._warm(app.asgi, request)
        wire.send(self._control, {"type": "parked"})
        readable = asyncio.Event()
        self._loop.add_reader(self._control, readable.set)
        await readable.wait()
        self._loop.remove_reader(self._control)
        message, fds = wire.receive(self._control)
        for fd in fds:
            os.close(fd)
        return message if message is not None and message["type"] == "go" else None

    async def _warm(self, asgi: Callable[..., Any], request_line: bytes) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            factory = self._protocol_factory(self._config or configure(asgi, lifespan=False), {})
            transport, _ = await self._loop.connect_accepted_socket(factory, theirs)
            request = request_line + b"\r\nHost: warm\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
            await self._loop.sock_sendall(ours, request)
            await asyncio.wait_for(self._loop.sock_recv(ours, 65536), 5.0)
            transport.abort()
        finally:
            ours.close()

    def _protocol_factory(self, config: Config, app_state: dict[str, Any]) -> Callable[[], asyncio.Protocol]:
        def protocol() -> asyncio.Protocol:
            made = config.http_protocol_class(
                config=config,
                server_state=self._state,
                app_state=app_state,
                _loop=self._loop,  # type: ignore[call-arg]
            )
            return made  # type: ignore[return-value,unused-ignore]

        return protocol

    async def _serve(self, asgi: Callable[..., Any], has_lifespan: bool) -> None:
        config = self._config or configure(asgi, lifespan=has_lifespan)
        lifespan = config.lifespan_class(config)
        await lifespan.startup()
        if lifespan.should_exit:
            raise StartupFailed(_handler.last)
        stop = self._stop
        if threading.current_thread() is threading.main_thread():
            self._loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = await self._listen(self._protocol_factory(config, lifespan.state))
        await stop.wait()
        self._loop.remove_reader(self._control)
        server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=self._grace)
        await lifespan.shutdown()


def _reap_orphans(loop: asyncio.AbstractEventLoop, suspect: int) -> None:
    """As init, take the status of processes that nobody else will ask for.

    `suspect` was a zombie at the last look already. A `subprocess.Popen` that its owner has not polled yet is spared: its
    return code would be lost.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        found = None
    pid = found.si_pid if found is not None else 0
    if pid and pid == suspect and not _is_awaited(pid):
        os.waitpid(pid, os.WNOHANG)
        pid = 0
    loop.call_later(_REAP_EVERY if pid == 0 else 1.0, _reap_orphans, loop, pid)


def _is_awaited(pid: int) -> bool:
    subprocess = sys.modules.get("subprocess")
    if subprocess is None:
        return False
    return any(
        isinstance(item, subprocess.Popen) and item.pid == pid and item.returncode is None for item in gc.get_objects()
    )
