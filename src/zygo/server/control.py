"""The doors to the server itself: the control API for its owner's commands, and calls of functions, on unix sockets; and both
for whoever has a token on a TCP port (tcp.py), when that is asked for.

Imported late (main.py): it takes a third of the server's imports, and deployed apps can wake meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from zygo.gateway.calls import Dispatcher
from zygo.paths import CALLS_SOCKET
from zygo.server import calls, tcp
from zygo.server.api import build_api
from zygo.server.called import CalledFunctions
from zygo.server.guard import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.applications import Starlette

    from zygo.server.main import Server

log = logging.getLogger("zygo.control")

END_SECONDS = 2.0
"""For open requests of commands when the server ends."""


@contextlib.asynccontextmanager
async def listening(server: Server) -> AsyncIterator[None]:
    """Take calls, and serve the control API, until the block ends."""
    settings = server.settings
    functions = CalledFunctions(server.apps, server.environments)
    dispatcher = Dispatcher(server.store.calls, functions.callee, settings.max_spawned)
    server.apps.dispatcher = dispatcher
    try:
        await dispatcher.start([record.id for record in await server.store.apps()])
        async with _doors(server, functions, dispatcher):
            yield
    finally:
        await dispatcher.close(0.0)


@contextlib.asynccontextmanager
async def _doors(server: Server, functions: CalledFunctions, dispatcher: Dispatcher) -> AsyncIterator[None]:
    settings = server.settings
    own = settings.door.parent / "server.sock"
    async with _serving(calls.build_calls_api(functions, dispatcher), own, "calls API"):
        server.apps.serve_calls(calls.endpoint(own, asyncio.get_running_loop()))
        await server.gateway.listen_for_calls(settings.calls_socket, 0o600)
        await server.gateway.listen_for_calls(settings.door / CALLS_SOCKET, 0o666)
        app = build_api(server)
        async with _serving(app, settings.control_socket, "control API"), _over_tcp(app, server):
            yield


@contextlib.asynccontextmanager
async def _serving(app: Starlette, path: Path, name: str) -> AsyncIterator[None]:
    """Serve `app` on a unix socket that only its owner can open."""
    async with _running(_config(app), _bind(path), name):
        yield
    _remove(path)


@contextlib.asynccontextmanager
async def _over_tcp(app: Starlette, server: Server) -> AsyncIterator[None]:
    """Serve the control API on its TCP port too, when one is asked for: to whoever has a token."""
    settings = server.settings
    sock = tcp.listen(settings, server.gateway_port)
    if sock is None:
        yield
        return
    config = _config(Guard(app, server.tokens), http=tcp.HeadInTime)
    config.load()
    async with contextlib.AsyncExitStack() as stack:
        if settings.control_cert:
            certificate = tcp.Certificate(Path(settings.control_cert), Path(settings.control_key))
            config.ssl = certificate.context
            following = asyncio.create_task(certificate.follow(), name="certificate")
            stack.callback(following.cancel)
        await stack.enter_async_context(_running(config, sock, "control API over TCP"))
        log.info("the control API listens on %s:%d", settings.control_host, settings.control_port)
        yield


def _config(app: Any, http: Any = "auto") -> uvicorn.Config:
    # What a proxy on this machine says of its clients is believed, and no other.
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=60,
        server_header=False,
        forwarded_allow_ips=["127.0.0.1", "::1"],
    )


@contextlib.asynccontextmanager
async def _running(config: uvicorn.Config, sock: socket.socket, name: str) -> AsyncIterator[None]:
    api = _Uvicorn(config)
    task = asyncio.create_task(api.serve(sockets=[sock]), name=name)
    try:
        await api.up.wait()
        yield
    finally:
        api.should_exit = True
        done, _ = await asyncio.wait([task], timeout=END_SECONDS)
        if not done:
            api.force_exit = True
            task.cancel()
            await asyncio.wait([task], timeout=END_SECONDS)


def _bind(path: Path) -> socket.socket:
    _remove(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    return sock


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers (the server has its own), and with an event instead of a flag to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()
