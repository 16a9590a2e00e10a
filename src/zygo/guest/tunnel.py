"""A web server of the user's: started, waited for, and reached by a byte tunnel from the container's socket to its port.

Nothing here reads HTTP: the gateway speaks it, to whatever listens there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, cast

from zygo.errors import ExecutionError, InvalidError
from zygo.guest import ports
from zygo.guest.entry import over

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from zygo.guest.entry import Entry
    from zygo.model import WebSpec

ENDED_SECONDS = 1.0
"""A server of which no process or thread was seen for so long does not come any more."""

POLL, POLL_LIMIT = 0.002, 0.05
"""Seconds between looks for the port, doubled up to the limit. A foreign server does not say when it listens, so this is looked
for; only while a container starts, and not beyond startup_timeout."""

GONE_AFTER = 0.2
"""Seconds without anybody on the port, after one of its processes ended, until the server is taken for dead: one that restarts
its workers, or itself, is back by then."""

LEAVE_SECONDS = 5.0
"""Seconds for the server to end a connection whose client has left; then it is cut."""

END_SECONDS = 5.0
"""Seconds that the server's processes have after SIGTERM."""

CONNECT_SECONDS = 10.0
LIMIT = 256 * 1024
EXIT_SERVER_DIED = 71
"""The exit status of a container whose server has died."""


class WebServer:
    """The application of one `@web_server`, with the steps of `web.App`."""

    asgi = None
    config = None
    beside = None
    lifespan = False

    def __init__(self, function: Entry, debug: bool) -> None:
        self.function = function
        self.notes: list[str] = []
        self.tunnel: Tunnel | None = None

    def fits(self, variant: dict[str, Any]) -> bool:
        """Whether it can serve that variant as it is."""
        return not over(variant)

    def prebuild(self) -> bool:
        """Nothing is ours."""
        return True

    def warm_route(self, answer: Any = None) -> AbstractContextManager[None]:
        """Nothing to warm."""
        return contextlib.nullcontext()

    def enter(self, run: Any, variant: dict[str, Any]) -> None:
        """Nothing: the server is started by `build`."""

    def exit(self, run: Any) -> None:
        """End what the server consists of: SIGTERM, then a moment, then its container is gone."""
        end_others(END_SECONDS)

    def build(self) -> Any:
        """Start the server and wait until it listens. Raises what the function raises, and ExecutionError."""
        web = self.function.web
        assert web is not None
        taken = ports.listeners().get(web.port)
        if taken:
            raise ExecutionError(
                f"Port {web.port} of {self.function.name!r} is taken: its containers share a network, because none can be given "
                f"its own here (`zygo doctor` says why), or something was started on that port before. Use max_containers=1 and "
                f"a port that is free."
            )
        self._start(web.startup_timeout)
        deadline = time.monotonic() + web.startup_timeout
        host = self._wait(web.port, deadline)
        if web.health_path:
            self._wait_for_health(web, deadline)
            host = ports.listeners().get(web.port, [host])[0]
        self.tunnel = Tunnel(self.function.name, web.port, host)
        return None

    def _start(self, seconds: float) -> None:
        name, port = self.function.name, self.function.web.port if self.function.web else 0
        main = threading.get_ident()

        def blocked(number: int, frame: Any) -> None:
            raise InvalidError(
                f"{name!r} serves on port {port} and does not return. Start the server with subprocess.Popen([...]), or in a "
                f"thread, and return."
            )

        def look() -> None:
            if port in ports.listeners():
                signal.pthread_kill(main, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, blocked)
        timer = threading.Timer(seconds, look)
        timer.daemon = True
        timer.start()
        try:
            self.function.raw()
        finally:
            timer.cancel()
            signal.signal(signal.SIGUSR1, before)

    def _wait_for_health(self, web: WebSpec, deadline: float) -> None:
        from zygo.guest import health

        said = health.wait(
            lambda: ports.listeners().get(web.port, ["127.0.0.1"])[0], web.port, web.health_path, deadline
        )
        if said is None:
            return
        longer = (
            f"web_server({web.port}, health_path={web.health_path!r}, startup_timeout={_longer(web.startup_timeout)})"
        )
        gone = (
            ""
            if ports.others() or threading.active_count() > 1
            else " No process of it runs any more; its output above says why."
        )
        raise ExecutionError(
            f"The server of {self.function.name!r} listened on port {web.port}, but was not healthy within "
            f"{web.startup_timeout:g} s: GET {web.health_path} {said}, and 2xx or 3xx is meant.{gone} Give health_path= the path "
            f"that says so. If it only needs longer, write @zygo.{longer}."
        )

    def _wait(self, port: int, deadline: float) -> str:
        """The address of the server, once it listens."""
        seconds = self.function.web.startup_timeout if self.function.web else 0.0
        began, pause = time.monotonic(), POLL
        idle_since, ended = began, False
        while True:
            found = ports.listeners()
            if port in found:
                return found[port][0]
            now = time.monotonic()
            if ports.others() or threading.active_count() > 1:
                idle_since = now
            ended = now - idle_since >= ENDED_SECONDS
            if ended or now >= deadline:
                break
            time.sleep(pause)
            pause = min(2 * pause, POLL_LIMIT)
        elsewhere = ", ".join(str(other) for other in sorted(found))
        said = f" It listens on {elsewhere}: give that as port=, or start it on {port}." if elsewhere else ""
        if not said and not ports.others() and threading.active_count() == 1:
            said = " No process of it runs any more; its output above says why."
        longer = (
            ""
            if ended
            else f" If it only needs longer, write @zygo.web_server({port}, startup_timeout={_longer(seconds)})."
        )
        waited = min(seconds, round(now - began, 1)) if ended else seconds
        raise ExecutionError(
            f"The server of {self.function.name!r} did not listen on port {port} within {waited:g} s.{said}{longer}"
        )


def _longer(seconds: float) -> int:
    return max(60, int(seconds * 4))


def end_others(seconds: float) -> None:
    """SIGTERM to the processes that this one started, and at most so long until they are gone."""
    fds = []
    for pid in ports.others():
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            fds.append(fd)
            os.kill(pid, signal.SIGTERM)
    import select

    deadline = time.monotonic() + seconds
    for fd in fds:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))
        os.close(fd)


class Tunnel:
    """Joins each connection to the container's socket with one of its own to the server, and watches that it lives.

    `died` is set when nobody listens any more.
    """

    def __init__(self, name: str, port: int, host: str) -> None:
        self.name = name
        self.port = port
        self.host = host
        self.connections: set[Near] = set()
        self.died = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._empty: asyncio.Event | None = None
        self._watched: dict[int, int] = {}
        self._stop: Callable[[], None] = lambda: None

    def open(self, stop: Callable[[], None]) -> Callable[[], asyncio.Protocol]:
        """Begin, on the running loop; what makes a protocol for each connection. `stop` is called when the server has died."""
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._stop = stop
        self._watch()
        return lambda: Near(self)

    async def drain(self, seconds: float) -> None:
        """Wait until every connection has ended, at most so long; then cut what is left."""
        assert self._empty is not None
        if self.connections and not self.died:
            self._empty.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in list(self.connections):
            connection.abort()
        for fd in self._watched.values():
            self._unwatch(fd)
        self._watched.clear()

    def left(self, connection: Near) -> None:
        """A connection ended."""
        self.connections.discard(connection)
        if not self.connections and self._empty is not None:
            self._empty.set()

    def look(self) -> None:
        """Something says that the server may be gone: see, after the time that a restart takes."""
        assert self._loop is not None
        self._loop.call_later(GONE_AFTER, self._verdict)

    def _verdict(self) -> None:
        self._watch()
        addresses = ports.listeners().get(self.port)
        if addresses:
            self.host = addresses[0]
        elif not self.died:
            self.died = True
            print(
                f"The server of {self.name} on port {self.port} has ended; its container ends too and is replaced.",
                file=sys.stderr,
                flush=True,
            )
            self._stop()

    def _watch(self) -> None:
        """Hear of the end of each process that there is now."""
        assert self._loop is not None
        for pid in ports.others() - self._watched.keys():
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            self._watched[pid] = fd
            self._loop.add_reader(fd, self._ended, pid)

    def _ended(self, pid: int) -> None:
        self._unwatch(self._watched.pop(pid))
        self.look()

    def _unwatch(self, fd: int) -> None:
        assert self._loop is not None
        self._loop.remove_reader(fd)
        os.close(fd)


class _End(asyncio.Protocol):
    """One end of a tunnel: what comes in goes out at the other, no faster than it can."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(LIMIT)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.closed:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.closed:
            self.other.transport.resume_reading()

    def close(self) -> None:
        """End it once what was written is sent."""
        if self.transport is not None and not self.closed:
            self.transport.close()

    def abort(self) -> None:
        """End it now."""
        if self.transport is not None and not self.closed:
            self.transport.abort()


class Near(_End):
    """A connection of the gateway's."""

    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__()
        self._tunnel = tunnel
        self._timer: asyncio.TimerHandle | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._tunnel.connections.add(self)
        self._task = asyncio.ensure_future(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        # uvloop reads on when a protocol pauses in connection_made, so what comes before there is another end is kept.
        self._early.append(data)
        if self.transport is not None:
            self.transport.pause_reading()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        tunnel, deadline = self._tunnel, time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                connecting = loop.create_connection(lambda: Far(self), tunnel.host, tunnel.port)
                _, far = await asyncio.wait_for(connecting, CONNECT_SECONDS)
                break
            except (OSError, asyncio.TimeoutError):
                # Nobody is there: it has died, or restarts itself. Which of both is known after a moment.
                tunnel.look()
                await asyncio.sleep(GONE_AFTER)
                if tunnel.died or self.closed or time.monotonic() > deadline:
                    self.abort()
                    return
        if self.closed or self.transport is None or far.transport is None:
            far.abort()
            return
        self.other = far
        for data in self._early:
            far.transport.write(data)
        if self._early:
            self.transport.resume_reading()
        self._early.clear()

    def eof_received(self) -> bool:
        # The client has left, and the gateway waits for the server to be done with its request.
        other = self.other
        if other is None or other.transport is None or other.closed or not other.transport.can_write_eof():
            return False
        other.transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LEAVE_SECONDS, self._leave)
        return True

    def _leave(self) -> None:
        if self.other is not None:
            self.other.abort()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._tunnel.left(self)
        if self.other is not None:
            self.other.close() if exc is None else self.other.abort()


class Far(_End):
    """The connection to the user's server that belongs to one of the gateway's."""

    def __init__(self, near: Near) -> None:
        super().__init__()
        self.other: _End | None = near

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.other is not None:
            self.other.close() if exc is None else self.other.abort()
