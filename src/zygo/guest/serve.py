"""Serving one ASGI application on a listening socket that the server made, with uvicorn's protocol classes.

uvicorn's own `Server` binds, installs signal handlers and polls; a container is handed its socket, is init of its pid
namespace and says "ready" on its control socket, so only the protocol, the lifespan and the drain are used.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import os
import signal
import sys
import time
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
from uvicorn.server import ServerState

from zygo import wire
from zygo.guest import tracebacks

if TYPE_CHECKING:
    import socket

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
        text = record.getMessage().rstrip()
        if record.exc_info and record.exc_info[1] is not None:
            text = tracebacks.describe(record.exc_info[1], sys.path[0])[0].rstrip()
        self.last = text
        print(text, file=sys.stderr, flush=True)


def run(listener: socket.socket, control: socket.socket, app: Callable[..., Any], grace: float) -> int:
    """Serve `app` until SIGTERM or until the control socket ends, then drain for at most `grace` seconds.

    Returns 0. Raises StartupFailed.
    """
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop() if uvloop is not None else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(loop, listener, control, app, grace))
    atexit._run_exitfuncs()
    return 0


async def _serve(
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    control: socket.socket,
    app: Callable[..., Any],
    grace: float,
) -> None:
    handler = _Handler()
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    config = Config(
        app,
        lifespan="off" if getattr(app, "zygo_no_lifespan", False) else "auto",
        http="httptools",
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
    lifespan = config.lifespan_class(config)
    await lifespan.startup()
    if lifespan.should_exit:
        raise StartupFailed(handler.last)
    state = _State()

    def protocol() -> asyncio.Protocol:
        made = config.http_protocol_class(config=config, server_state=state, app_state=lifespan.state, _loop=loop)  # type: ignore[call-arg]
        return made  # type: ignore[return-value,unused-ignore]

    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(control, stop.set)
    listener.setblocking(False)
    server = await loop.create_unix_server(protocol, sock=listener, backlog=_BACKLOG)
    if os.getpid() == 1:
        loop.call_later(_REAP_EVERY, _reap_orphans, loop, 0)
    gc.enable()
    wire.send(control, {"type": "ready"})
    await stop.wait()
    loop.remove_reader(control)
    server.close()
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(list(state.tasks), timeout=grace)
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
