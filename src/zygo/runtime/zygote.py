"""The server's side of the fork servers: start an image zygote, ask it for revision zygotes, and those for containers.

Every request has a reply and every reply a deadline; nobody polls. A process is gone when its pidfd says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zygo.errors import ContainerError
from zygo.runtime.channel import Channel, LineReader, host_pid, watch_exit

START_SECONDS = 30.0
"""For an interpreter to start in a new sandbox: 60 ms on an idle machine; this is for one whose disk is cold."""

FORK_SECONDS = 10.0
"""For a fork server to answer: 2 ms on an idle machine."""

OnLine = Callable[[str, str], None]
"""Called with (stream, line); stream is "stdout" or "stderr"."""


@dataclass
class PreloadReport:
    """What the image zygote holds: modules that failed, names of environment variables read meanwhile, threads."""

    failed: dict[str, str] = field(default_factory=dict)
    environ: frozenset[str] = frozenset()
    threads: int = 1
    crashed_on: str | None = None


class ImageZygote:
    """The first process of a sandbox.

    Holds the child process (bubblewrap, whose death kills everything below it), the control channel and two pipes.
    `on_end` is called once when it is gone without `close`.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._waiting: dict[str, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._last_preloading: str | None = None
        self.alive = False

    async def start(
        self,
        command: Sequence[str],
        arguments: Callable[[int], list[str]],
        environment: Mapping[str, str],
        on_line: OnLine,
        cgroup_fds: Sequence[int] = (),
    ) -> None:
        """Run `command` + `arguments(control fd)` and wait until it answers. `cgroup_fds` are passed on, and stay the caller's.

        Raises ContainerError with what it printed when it ends first or does not answer in START_SECONDS. Must be
        called on the main thread: bubblewrap's --die-with-parent follows the thread that spawned it.
        """
        ours, theirs = Channel.pair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        printed: list[str] = []

        def keep(stream: str, line: str) -> None:
            printed.append(line)
            del printed[:-20]
            on_line(stream, line)

        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork and an exec, on the thread that must do it
                [*command, *arguments(theirs.fileno())],
                pass_fds=(theirs.fileno(), *cgroup_fds),
                stdin=subprocess.DEVNULL,
                stdout=out_write,
                stderr=err_write,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        LineReader(out_read, lambda line: keep("stdout", line))
        LineReader(err_read, lambda line: keep("stderr", line))
        up = self._expect("up")
        self._channel = Channel(ours, self._message, self._ended)
        self.alive = True
        try:
            await asyncio.wait_for(up, START_SECONDS)
        except (TimeoutError, ContainerError) as error:
            await self.close()
            words = "\n".join(printed[-5:]) or str(error) or f"no answer in {START_SECONDS:g} s"
            raise ContainerError(f"The sandbox of the image did not start: {words}") from None

    async def preload(self, modules: Sequence[str], seconds: float = 120.0) -> PreloadReport:
        """Import `modules` ahead. A module that fails is left out; one that kills the process is named in the report."""
        self._last_preloading = None
        waiting = self._expect("preloaded")
        if not self._send({"type": "preload", "modules": list(modules)}):
            raise ContainerError("The image's zygote is gone.")
        try:
            message, _ = await asyncio.wait_for(waiting, seconds)
        except ContainerError:
            return PreloadReport(crashed_on=self._last_preloading)
        except TimeoutError:
            await self.close()
            return PreloadReport(crashed_on=self._last_preloading)
        return PreloadReport(
            failed=dict(message.get("failed") or {}),
            environ=frozenset(message.get("environ") or ()),
            threads=int(message.get("threads") or 1),
        )

    async def revision(self, message: dict[str, Any], fds: Sequence[int]) -> int:
        """Fork a revision zygote; returns its pidfd, which the caller owns. `fds` stay the caller's."""
        key = f"revision {message['id']}"
        waiting = self._expect(key)
        if not self._send({"type": "revision", **message}, fds):
            self._waiting.pop(key, None)
            raise ContainerError("The image's zygote is gone.")
        try:
            _, received = await asyncio.wait_for(waiting, FORK_SECONDS)
        except TimeoutError:
            self._waiting.pop(key, None)
            raise ContainerError(f"The image's zygote did not fork in {FORK_SECONDS:g} s.") from None
        if len(received) != 1:
            _close_all(received)
            raise ContainerError("The image's zygote answered without a process.")
        return received[0]

    async def close(self) -> None:
        """Kill it and everything it forked, and reap it. May be called twice."""
        self.alive = False
        if self._channel is not None:
            self._channel.close()
        self._fail_all("The image's zygote was stopped.")
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _expect(self, key: str) -> asyncio.Future[tuple[dict[str, Any], list[int]]]:
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        return future

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        return self._channel is not None and self._channel.send(message, fds)

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        kind = message["type"]
        if kind == "preloading":
            self._last_preloading = str(message.get("module"))
        key = f"revision {message.get('id')}" if kind == "revision" else kind
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result((message, fds))
        else:
            _close_all(fds)

    def _ended(self) -> None:
        self.alive = False
        self._fail_all("The image's zygote ended.")
        self._on_end()

    def _fail_all(self, text: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ContainerError(text))
                # It may have been given up already (a deadline), and then nobody will look at it.
                future.exception()
        self._waiting.clear()


@dataclass
class LoadReport:
    """What a revision zygote says once the user's module is in."""

    modules: tuple[str, ...] = ()
    unfit: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class RevisionZygote:
    """A fork server that holds one app's module. `on_end` is called once when it is gone without `close`."""

    def __init__(self, identifier: str, on_line: OnLine, on_end: Callable[[], None]) -> None:
        self.id = identifier
        self.alive = False
        self.pid = -1
        self._on_line = on_line
        self._on_end = on_end
        self._channel: Channel | None = None
        self._pidfd = -1
        self._loaded: asyncio.Future[LoadReport] = asyncio.get_running_loop().create_future()
        self._loaded.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._containers: dict[str, ContainerProcess] = {}

    async def start(self, parent: ImageZygote, message: dict[str, Any], cgroup_fds: Sequence[int] = ()) -> int:
        """Fork it from `parent`; returns its pid on the host (-1 when unknown). `loaded` tells how the import went."""
        ours, theirs = Channel.pair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        LineReader(out_read, lambda line: self._on_line("stdout", line))
        LineReader(err_read, lambda line: self._on_line("stderr", line))
        self._channel = Channel(ours, self._message, self._ended)
        try:
            fds = [theirs.fileno(), out_write, err_write, *cgroup_fds]
            self._pidfd = await parent.revision({"id": self.id, **message}, fds)
        except ContainerError:
            self._channel.close()
            raise
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        self.alive = True
        self.pid = host_pid(self._pidfd)
        return self.pid

    async def loaded(self, seconds: float) -> LoadReport:
        """Wait for the user's module to be imported. Raises ContainerError with the user's traceback."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._loaded), seconds)
        except TimeoutError:
            raise ContainerError(
                f"The import of the app did not end in {seconds:g} s. Raise startup_timeout, or move slow work out of the "
                f"module's top level."
            ) from None

    def fork(self, container: ContainerProcess, message: dict[str, Any], fds: Sequence[int]) -> None:
        """Ask for a container; it says itself when it is ready. Raises ContainerError when this zygote is gone."""
        self._containers[container.id] = container
        if self._channel is None or not self._channel.send({"type": "start", **message}, fds):
            del self._containers[container.id]
            raise ContainerError("The revision's zygote is gone.")

    async def close(self) -> None:
        """Kill it and every container it forked (init of their pid namespace). May be called twice."""
        self.alive = False
        if self._channel is not None:
            self._channel.close()
        if self._pidfd >= 0:
            pidfd, self._pidfd = self._pidfd, -1
            send_signal(pidfd, signal.SIGKILL)
            await exit_of(pidfd)
            os.close(pidfd)
        self._orphan()

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        kind = message["type"]
        container = self._containers.get(str(message.get("id")))
        if kind == "started" and container is not None and len(fds) == 1:
            container.started(fds[0])
            return
        _close_all(fds)
        if kind == "exited" and container is not None:
            status = message.get("status")
            if not isinstance(status, int):
                # It ends the channel, and so every container of this zygote.
                raise ValueError("an exit status that is no number")
            del self._containers[container.id]
            container.exit_status(status)
        elif kind == "loaded" and not self._loaded.done():
            unfit = message.get("unfit")
            self._loaded.set_result(
                LoadReport(
                    tuple(name for name in map(str, message.get("modules") or ()) if name.isidentifier()),
                    unfit if isinstance(unfit, dict) else None,
                    tuple(map(str, message.get("notes") or ())),
                )
            )
        elif kind == "failed" and not self._loaded.done():
            self._loaded.set_exception(
                ContainerError("The app failed while it was imported.", str(message.get("traceback") or ""))
            )

    def _ended(self) -> None:
        self.alive = False
        if not self._loaded.done():
            self._loaded.set_exception(
                ContainerError("The process that imports the app died (killed, or crashed in an extension).")
            )
        self._orphan()
        self._on_end()

    def _orphan(self) -> None:
        for container in list(self._containers.values()):
            container.exit_status(-int(signal.SIGKILL))
        self._containers.clear()


class ContainerProcess:
    """One forked container, as the server sees it.

    Holds a pidfd and a control channel until `exited` is done. `ready` fails with ContainerError when it dies first or
    says why it cannot start; `exited` gives the exit status (negative: the signal) and never fails. `on_network` gets its
    pid when it waits for its own network namespace to be connected, until `connected` says so.
    """

    def __init__(self, identifier: str, *, wants_network: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.id = identifier
        self.pid = -1
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.exited: asyncio.Future[int] = loop.create_future()
        self.traceback = ""
        self.on_network: Callable[[int], None] = lambda pid: None
        self._wants_network = wants_network
        self._asked = self._connected = False
        self._go: dict[str, Any] | None = None
        self._pidfd = -1
        self._signal = 0
        self._gone = False
        self._status: int | None = None
        ours, self._theirs = Channel.pair()
        self._channel = Channel(ours, self._message, lambda: None)

    @property
    def control_fd(self) -> int:
        """The guest's end of the control socket, to be passed with the fork request; see `passed`."""
        return self._theirs.fileno()

    def passed(self) -> None:
        """The fork request was sent: our copy of the guest's end is not needed any more."""
        self._theirs.close()

    def started(self, pidfd: int) -> None:
        """The fork happened; `pidfd` becomes ours. Raises OSError when it is nothing that can be waited for."""
        if self._pidfd >= 0 or self.exited.done():
            os.close(pidfd)
            return
        try:
            watch_exit(pidfd, self._process_gone)
        except OSError:
            os.close(pidfd)
            raise
        self._pidfd = pidfd
        self.pid = host_pid(pidfd)
        if self._signal:
            send_signal(pidfd, self._signal)
        if self._asked:
            self.on_network(self.pid)

    def exit_status(self, status: int) -> None:
        """The zygote has reaped it, or is itself gone and took it along."""
        self._status = status
        if self._gone or self._pidfd < 0:
            self._finish()

    def go(self, variant: dict[str, Any]) -> bool:
        """Tell a spare that it is needed, and for which variant. False when it is gone."""
        self._go = {"type": "go", "variant": variant}
        if self._wants_network and not self._connected:
            return not self._gone  # it reads one message at a time, and waits for another: see `connected`
        return self._channel.send(self._go)

    def connected(self) -> None:
        """Tell it that its network namespace, which `on_network` was called for, is connected."""
        self._connected = True
        self._channel.send({"type": "network"})
        if self._go is not None:
            self._channel.send(self._go)

    def signal(self, number: int) -> None:
        """Send a signal, as soon as it is known which process it is; nothing happens when it is gone."""
        if self._pidfd >= 0:
            send_signal(self._pidfd, number)
        elif self._signal != signal.SIGKILL:
            self._signal = number

    async def stop(self, grace: float) -> int:
        """Ask it to drain, wait up to `grace` seconds, kill it; returns once it is gone. May be called twice.

        One that is not ready has nothing to finish, and as init of its pid namespace would not even see a SIGTERM.
        """
        self.signal(signal.SIGTERM if self.ready.done() else signal.SIGKILL)
        try:
            return await asyncio.wait_for(asyncio.shield(self.exited), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.exited

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        _close_all(fds)
        if message["type"] == "ready" and not self.ready.done():
            self.ready.set_result(None)
        elif message["type"] == "network" and self._wants_network and not self._asked:
            self._asked = True
            if self.pid > 0:
                self.on_network(self.pid)
        elif message["type"] == "failed":
            self.traceback = str(message.get("traceback") or "")
            if not self.ready.done():
                self.ready.set_exception(ContainerError("The container failed while it started.", self.traceback))

    def _process_gone(self) -> None:
        self._gone = True
        if self._status is not None:
            self._finish()
        else:
            # The zygote's word on the status is on its way; should it never come, the end itself must not be missed.
            asyncio.get_running_loop().call_later(1.0, self._finish)

    def _finish(self) -> None:
        if self.exited.done():
            return
        self._channel.close()
        self._theirs.close()
        if self.pid > 0:
            # In a sandbox the pid namespace took everything along; without one, what it started is in its session.
            kill_session(self.pid)
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        status = self._status if self._status is not None else -int(signal.SIGKILL)
        if not self.ready.done():
            self.ready.set_exception(
                ContainerError(f"The container died while it started ({describe_status(status)}).", self.traceback)
            )
        self.exited.set_result(status)


def kill_session(pid: int) -> None:
    """Kill the process group that `pid` led, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def describe_status(status: int) -> str:
    """An exit status in words: "exit status 3", "killed by SIGKILL"."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def send_signal(pidfd: int, number: int) -> None:
    """Signal the process behind `pidfd`; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


async def exit_of(pidfd: int) -> None:
    """Return once the process behind `pidfd` is gone."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch_exit(pidfd, lambda: None if done.done() else done.set_result(None))
    await done


def listen(path: str) -> socket.socket:
    """A listening unix socket at `path`, replacing what is there.

    The server keeps it until the container is gone, so that its path never leads nowhere while it lives. 4095 waiting
    connections are the kernel's default limit (net.core.somaxconn) less one.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock.bind(path)
    sock.listen(4095)
    return sock


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
