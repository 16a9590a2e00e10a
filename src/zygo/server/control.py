"""The doors to the server itself: the control API for its owner's commands, and calls of functions, on unix sockets.

Imported late (main.py): it takes a third of the server's imports, and deployed apps can wake meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import uvicorn

from zygo.engine.machine import open_to_sandbox
from zygo.paths import CALLS_SOCKET
from zygo.server import calls
from zygo.server.api import build_api
from zygo.server.called import CalledFunctions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.applications import Starlette

    from zygo.server.main import Server

END_SECONDS = 2.0
"""For open requests of commands when the server ends."""


@contextlib.asynccontextmanager
async def listening(server: Server) -> AsyncIterator[None]:
    """Take calls, and serve the control API, until the block ends."""
    settings = server.settings
    # The door's directory alone is shown in sandboxes, whose uid may connect; on the host nobody gets past the one above.
    settings.door.parent.mkdir(mode=0o700, exist_ok=True)
    open_to_sandbox(settings.door.parent, is_root=server.machine.is_root)
    settings.door.mkdir(mode=0o755, exist_ok=True)
    own = settings.door.parent / "server.sock"
    async with _serving(calls.build_calls_api(CalledFunctions(server.apps)), own, "calls API"):
        server.apps.serve_calls(calls.endpoint(own, asyncio.get_running_loop()))
        await server.gateway.listen_for_calls(settings.calls_socket, 0o600)
        await server.gateway.listen_for_calls(settings.door / CALLS_SOCKET, 0o666)
        async with _serving(build_api(server), settings.control_socket, "control API"):
            yield


@contextlib.asynccontextmanager
async def _serving(app: Starlette, path: Path, name: str) -> AsyncIterator[None]:
    """Serve `app` on a unix socket that only its owner can open."""
    sock = _bind(path)
    api = _Uvicorn(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=60))
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
        _remove(path)


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
