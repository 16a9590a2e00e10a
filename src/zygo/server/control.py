"""The control API's listener: uvicorn on a unix socket that only its owner can open.

Imported late (main.py): it takes a third of the server's imports, and deployed apps can wake meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

import uvicorn

from zygo.server.api import build_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zygo.server.main import Server

END_SECONDS = 2.0
"""For open requests of commands when the server ends."""


@contextlib.asynccontextmanager
async def listening(server: Server) -> AsyncIterator[None]:
    """Serve the control API until the block ends."""
    path = server.settings.control_socket
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    api = _Uvicorn(
        uvicorn.Config(build_api(server), log_config=None, access_log=False, lifespan="off", timeout_keep_alive=60)
    )
    task = asyncio.create_task(api.serve(sockets=[sock]), name="control API")
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
