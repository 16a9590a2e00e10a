"""Containers on this machine: image zygotes, revision zygotes and containers, made through `runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from typing import TYPE_CHECKING, Any

from zygo.engine.images import ImageHost, ImageHosts
from zygo.engine.spares import Spares
from zygo.errors import ContainerError
from zygo.model import encode
from zygo.paths import CALLS_SOCKET, CONTAINER_DOOR
from zygo.runtime import network as uplinks
from zygo.runtime.channel import LineReader
from zygo.runtime.limits import PIDS_LIMIT, Group, Limits, remove_group
from zygo.runtime.zygote import ContainerProcess, RevisionZygote, describe_status, listen

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from zygo.engine.base import OnLog, RevisionPlan
    from zygo.engine.machine import Machine
    from zygo.model import FunctionSpec

STOP_AFTER_KILL = 10.0
"""Seconds for a killed process to vanish; longer only when it hangs in the kernel (a dead network file system)."""

GONE_SECONDS = 0.5
"""Within which the end of a killed process is known."""

UPLINK_YOUNG, UPLINK_DELAY_LIMIT = 1.0, 10.0
"""Seconds. A network process that ended sooner is started again after a delay, doubled each time up to the limit."""


class LocalEngine:
    """The engine of this machine. Holds every process it started until `close`.

    Arguments:
        machine: what this machine can do (engine/machine.py), found out once at the server's start.
        sockets: directory for the containers' sockets; emptied at the start.
        grace: seconds that a container's requests in flight have when it is stopped.
        spares: how many parked containers there may be (engine/spares.py).
    """

    def __init__(self, machine: Machine, sockets: Path, grace: float, spares: int = 0) -> None:
        self.machine = machine
        self.sandboxed = machine.sandboxed
        self.warnings = machine.warnings
        self.grace = grace
        self.sockets = sockets
        sockets.mkdir(parents=True, exist_ok=True)
        for path in sockets.iterdir():
            path.unlink()
        self.hosts = ImageHosts(machine)
        self.spares = Spares(spares)
        self.revisions: set[LocalRevision] = set()
        self.containers: set[LocalContainer] = set()
        self._numbers = itertools.count(1)
        self._later: set[asyncio.Task[None]] = set()
        self._watchdog: asyncio.Task[None] | None = None

    async def prepare(self, plan: RevisionPlan, on_log: OnLog) -> LocalRevision:
        """See Engine.prepare."""
        if self._watchdog is None and self.machine.cgroups is None:
            self._watchdog = asyncio.create_task(self._watch_memory(), name="memory watchdog")
        revision = LocalRevision(self, plan, on_log)
        await revision.ensure()
        self.revisions.add(revision)
        for function in plan.functions:
            revision.park(function)
        return revision

    def warm_up(self, guest: Path) -> None:
        """Begin to start the image zygotes that were used last: most likely they are needed at once."""
        self.hosts.warm_up(guest)

    def next_id(self) -> str:
        """A container id, unique in this server's life and short (it is part of a socket's path)."""
        return f"c-{os.getpid():x}-{next(self._numbers):x}"

    async def close(self) -> None:
        """See Engine.close."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        for container in list(self.containers):
            container.process.signal(signal.SIGKILL)
        await asyncio.gather(*(revision.retire() for revision in list(self.revisions)))
        await self.hosts.close()
        if self.containers:
            await asyncio.wait([c.exited for c in self.containers], timeout=STOP_AFTER_KILL)
        while self._later:
            await asyncio.wait(self._later)
        if self.machine.cgroups is not None:
            self.machine.cgroups.close()

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do this in the background; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _watch_memory(self) -> None:
        import psutil

        # Where no cgroup counts, twice a second is how far a container can run away: about 1 GB of fresh pages.
        while True:
            await asyncio.sleep(0.5)
            for container in list(self.containers):
                if container.memory_limit and container.process.pid > 0:
                    try:
                        used = psutil.Process(container.process.pid).memory_info().rss
                    except psutil.Error:
                        continue
                    if used > container.memory_limit:
                        container.over_memory = True
                        container.process.signal(signal.SIGKILL)


class LocalRevision:
    """One revision's zygote on this machine, made again when it dies."""

    def __init__(self, engine: LocalEngine, plan: RevisionPlan, on_log: OnLog) -> None:
        self.engine = engine
        self.plan = plan
        self.notes: tuple[str, ...] = ()
        self.modules: tuple[str, ...] = ()
        self._on_log = on_log
        self._zygote: RevisionZygote | None = None
        self._host: ImageHost | None = None
        self._uplink: uplinks.Uplink | None = None
        self._uplink_losses = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._group: Group | None = None
        self._lock = asyncio.Lock()
        self._import_in = "zygote"
        self._starts = 0
        self._retired = False

    async def ensure(self) -> RevisionZygote:
        """The running zygote; a new one when there is none. Raises ContainerError."""
        async with self._lock:
            if self._retired:
                raise ContainerError("The revision was retired.")
            if self._zygote is None or not self._zygote.alive:
                if self._zygote is not None:
                    await self._zygote.close()
                await self._drop()
                self._zygote = await self._start_zygote()
            return self._zygote

    async def _start_zygote(self) -> RevisionZygote:
        retired = False
        for _ in range(3):
            self._host = await self.engine.hosts.acquire(self.plan, self._system_log)
            zygote = RevisionZygote(self.plan.id, lambda stream, line: self._on_log("", "", stream, line), lambda: None)
            try:
                pid = await self._fork(zygote, self._host)
                await self._connect(pid)
                report = await zygote.loaded(self.plan.startup_timeout)
            except BaseException:
                await zygote.close()
                await self._drop()
                raise
            self.notes, self.modules = report.notes, report.modules
            host = self._host
            more = host.learn(report.modules)
            if not report.unfit or self._import_in == "container":
                return zygote
            await zygote.close()
            await self._drop()
            if more and not retired:
                # It may be a library's thread (numpy has one), which is no hindrance in a zygote that imports it ahead.
                retired = True
                await self.engine.hosts.retire(host)
                continue
            self._explain_unfit(report.unfit)
            self._import_in = "container"
        raise ContainerError("The revision's zygote could not be started.")

    async def _fork(self, zygote: RevisionZygote, host: ImageHost) -> int:
        cgroups, fds = self.engine.machine.cgroups, []
        if cgroups is not None:
            # The user's module runs in it: half of the machine at most, like a container that sets no limit.
            # A name of its own for each zygote: the group of the one before is still being removed.
            self._starts += 1
            self._group = cgroups.create(
                f"{self.plan.id}-{self._starts}", Limits(memory=self.engine.machine.memory_bytes // 2)
            )
            fds = self._group.open_join()
        try:
            return await zygote.start(host.zygote, self._message(), fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _message(self) -> dict[str, object]:
        plan, machine = self.plan, self.engine.machine
        files = f"/.zygo/revisions/{plan.id}" if machine.sandboxed else str(plan.files)
        source = "/root" if machine.sandboxed else str(plan.files / "root")
        cwd = plan.workdir if plan.workdir and machine.sandboxed else source
        return {
            "files": files,
            "source": source,
            "cwd": cwd,
            "hostname": plan.app[:60] or "zygo",
            "network": self.network,
            "module": plan.module,
            "app_variable": plan.app_variable,
            "functions": [{"name": function.name} for function in plan.functions],
            "env": {**plan.image_env, **plan.env, **_place(plan)},
            "urls": plan.urls,
            "import_in": self._import_in,
            "debug": plan.debug,
            "app": plan.address or plan.app,
            "door": self._door(),
        }

    def _door(self) -> str:
        """The socket for calls, as its containers see it; "" for none."""
        machine = self.engine.machine
        if machine.door is None:
            return ""
        return CONTAINER_DOOR if machine.sandboxed else str(machine.door / CALLS_SOCKET)

    @property
    def network(self) -> str:
        """The network this revision really gets: isolated, host or none."""
        return self.engine.machine.network_for(self.plan.network)

    async def _connect(self, pid: int) -> None:
        if self.network == "isolated" and pid > 0 and self.engine.machine.slirp:
            self._uplink = await uplinks.Uplink.attach(self.engine.machine.slirp, pid, lambda: self._uplink_lost(pid))

    def _uplink_lost(self, pid: int) -> None:
        if self.alive:
            self._reconnecting = asyncio.create_task(self._reconnect(pid), name=f"network of {self.plan.id}")

    async def _reconnect(self, pid: int) -> None:
        """The process that carries this revision's outbound network was killed: another one, later each time."""
        lost = self._uplink
        if lost is None:
            return
        self._uplink_losses = self._uplink_losses + 1 if lost.age < UPLINK_YOUNG else 0
        if self._uplink_losses:
            await asyncio.sleep(min(0.1 * 2**self._uplink_losses, UPLINK_DELAY_LIMIT))
        async with self._lock:
            if self._uplink is not lost or not self.alive:
                return
            self._uplink = None
            await lost.close()
            said = f" ({lost.words[-1]})" if lost.words else ""
            text = f"The app's outbound network was interrupted: slirp4netns ended{said}"
            try:
                await self._connect(pid)
            except ContainerError as error:
                self._system_log("stderr", f"{text}, and cannot be started again: {error}")
            else:
                self._system_log("stderr", f"{text} and was started again.")

    async def start(self, function: str, variant: FunctionSpec | None = None) -> LocalContainer:
        """See Revision.start."""
        zygote = await self.ensure()
        spec = next(f for f in self.plan.functions if f.name == function)
        self.park(spec)
        wanted = variant or spec
        if wanted.resources == spec.resources:  # its control group has been made for those
            spare = self.engine.spares.take(self, function, variant_message(wanted))
            if spare is not None:
                return spare
        return self._fork_container(zygote, wanted, park=False)

    def park(self, spec: FunctionSpec) -> None:
        """Have a spare of this function, soon."""

        def make() -> LocalContainer:
            if self._zygote is None:
                raise ContainerError("The revision has no zygote.")
            return self._fork_container(self._zygote, spec, park=True)

        self.engine.spares.refill_later(self, spec.name, make)

    @property
    def alive(self) -> bool:
        """Whether its zygote runs."""
        return self._zygote is not None and self._zygote.alive and not self._retired

    def _fork_container(self, zygote: RevisionZygote, spec: FunctionSpec, *, park: bool) -> LocalContainer:
        container = LocalContainer(self.engine, spec, self._on_log, self.network)
        try:
            container.fork(zygote, park=park)
        except BaseException:
            container.dispose()
            raise
        return container

    async def retire(self) -> None:
        """See Revision.retire."""
        self._retired = True
        self.engine.spares.drop(self)
        async with self._lock:
            if self._zygote is not None:
                await self._zygote.close()
            await self._drop()
        self.engine.revisions.discard(self)

    async def _drop(self) -> None:
        if self._uplink is not None:
            uplink, self._uplink = self._uplink, None
            await uplink.close()
        if self._group is not None:
            group, self._group = self._group, None
            self.engine.later(remove_group(group))
        if self._host is not None:
            host, self._host = self._host, None
            await self.engine.hosts.release(host)

    def _system_log(self, stream: str, line: str) -> None:
        self._on_log("", "", "system", line)

    def _explain_unfit(self, unfit: dict[str, object]) -> None:
        where = f" at {unfit['where']}" if unfit.get("where") else ""
        self._on_log(
            "",
            "",
            "system",
            f"{self.plan.module} {unfit.get('what')} while it was imported{where}, so its containers cannot be forked from it: "
            f"each one imports the module itself and starts more slowly. Move that into the function, its factory, or "
            f"an enter method without snap=True.",
        )


class LocalContainer:
    """One container on this machine: a process, its socket, its pipes and its cgroups, all gone when `exited` is done."""

    def __init__(self, engine: LocalEngine, spec: FunctionSpec, on_log: OnLog, network: str) -> None:
        self.engine = engine
        # Only a namespace that was given up to the host's is shared by containers that listen on ports.
        self._network = network if spec.own_network and network != "host" and engine.sandboxed else "shared"
        self._uplink: uplinks.Uplink | None = None
        self.function = spec.variant.of if spec.variant is not None else spec.name
        self.id = engine.next_id()
        self.socket_path = str(engine.sockets / f"{self.id}.s")
        self.memory_limit = memory_limit(spec, engine.machine)
        self.over_memory = False
        self.process = ContainerProcess(self.id, wants_network=self._network == "isolated")
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._spec = spec
        self._on_log = on_log
        self._readers: list[LineReader] = []
        self._group: Group | None = None
        self._listener: socket.socket = listen(self.socket_path)
        self.process.exited.add_done_callback(lambda future: self._gone(future.result()))
        self.process.on_network = lambda pid: engine.later(self._connect(pid))
        engine.containers.add(self)

    @property
    def ready(self) -> asyncio.Future[None]:
        """See Container.ready."""
        return self.process.ready

    def fork(self, zygote: RevisionZygote, *, park: bool) -> None:
        """Send the fork request with the socket, the pipes and the cgroups; `park` makes it a spare. Raises ContainerError."""
        pipes = [os.pipe(), os.pipe()]
        for (read, _), stream in zip(pipes, ("stdout", "stderr"), strict=True):
            self._readers.append(LineReader(read, self._line(stream)))
        procs = self._join_cgroups()
        try:
            fds = [self._listener.fileno(), self.process.control_fd, pipes[0][1], pipes[1][1], *procs]
            zygote.fork(self.process, {**self._message(), "park": park}, fds)
        finally:
            self.process.passed()
            for fd in (pipes[0][1], pipes[1][1], *procs):
                os.close(fd)

    def _message(self) -> dict[str, object]:
        limits = {"files": 65536}
        if self._group is None and self._spec.resources.memory_limit:
            limits["data"] = self.memory_limit
        if self._group is None and self.engine.sandboxed:
            # Counted in the revision's user namespace (since Linux 5.14), so over all its containers and nobody else's.
            limits["processes"] = PIDS_LIMIT
        return {
            "id": self.id,
            "function": self.function,
            "limits": limits,
            "grace": self.engine.grace,
            "variant": variant_message(self._spec),
            "network": self._network,
        }

    def _join_cgroups(self) -> Sequence[int]:
        if self.engine.machine.cgroups is None:
            return ()
        self._group = self.engine.machine.cgroups.create(
            self.id, Limits(memory=self.memory_limit, cpu=self._spec.resources.cpu_limit)
        )
        return self._group.open_join()

    async def stop(self, grace: float) -> int:
        """See Container.stop."""
        await self.process.stop(grace)
        return await asyncio.shield(self.exited)

    def reason(self) -> str:
        """See Container.reason."""
        if not self.process.exited.done():
            return ""
        if self.over_memory:
            return f"it used more than its {self.memory_limit // 2**20} MiB of memory"
        return describe_status(self.process.exited.result())

    async def _connect(self, pid: int) -> None:
        """Give it its own way to the outside, and tell it; again when that is lost."""
        slirp = self.engine.machine.slirp
        try:
            if slirp is not None and not self.process.exited.done():
                self._uplink = await uplinks.Uplink.attach(slirp, pid, lambda: self._uplink_lost(pid))
        except ContainerError as error:
            # A spare that was given up meanwhile has no namespace any more; its end is on its way.
            await asyncio.wait({self.process.exited}, timeout=GONE_SECONDS)
            if self.process.exited.done():
                return
            self._on_log(self.function, self.id, "system", f"The container has no network: {error}")
            self.process.signal(signal.SIGKILL)
            return
        self.process.connected()
        if self.process.exited.done():
            await self._disconnect()

    def _uplink_lost(self, pid: int) -> None:
        if not self.process.exited.done():
            self._on_log(
                self.function, self.id, "system", "The container's outbound network was interrupted: slirp4netns ended."
            )
            self.engine.later(self._connect_again(pid))

    async def _connect_again(self, pid: int) -> None:
        await self._disconnect()
        await asyncio.sleep(UPLINK_YOUNG)
        if not self.process.exited.done():
            await self._connect(pid)

    async def _disconnect(self) -> None:
        uplink, self._uplink = self._uplink, None
        if uplink is not None:
            await uplink.close()

    def dispose(self) -> None:
        """Give up one that was never forked."""
        self.process.exit_status(-int(signal.SIGKILL))

    def _line(self, stream: str) -> Callable[[str], None]:
        return lambda line: self._on_log(self.function, self.id, stream, line)

    def _gone(self, status: int) -> None:
        if self._group is not None and self._group.out_of_memory():
            self.over_memory = True
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)
        self.engine.later(self._finish())

    async def _finish(self) -> None:
        await self._disconnect()
        if self._group is not None:
            await remove_group(self._group)
        self.engine.containers.discard(self)
        if not self.exited.done():
            self.exited.set_result(self.process.exited.result())


def _place(plan: RevisionPlan) -> dict[str, str]:
    """What containers are told of where they are; calls go to apps of the same environment by it."""
    return {
        "ZYGO_APP": plan.app,
        "ZYGO_REVISION": plan.id,
        "ZYGO_ENVIRONMENT": plan.environment,
        "MODAL_ENVIRONMENT": plan.environment,
    }


def variant_message(spec: FunctionSpec) -> dict[str, Any]:
    """What a container must know of the variant that it is: {} for none."""
    variant = spec.variant
    if variant is None:
        return {}
    return {
        "parameters": variant.parameters,
        "init": variant.init,
        "env": variant.env,
        "timeout": spec.timeout,
        "max_inputs": spec.policy.max_inputs,
        "batch": encode(spec.batch),
    }


def memory_limit(spec: FunctionSpec, machine: Machine) -> int:
    """Bytes one container may use: what was asked for, else half of the machine, so that one leak cannot take it all."""
    asked = spec.resources.memory_limit
    return asked * 2**20 if asked else machine.memory_bytes // 2
