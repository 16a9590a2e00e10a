"""The server process: the composition root. Builds every part, starts them in order, stops them in reverse.

    lock -> log -> machine -> engine -> gateway -> deployed apps -> store -> control API -> "ready"

The order is also that of what a request to a deployed app needs after a restart. The machine is tried out while the parts are
imported; image zygotes start while names and routes come back from a glance at the database (store/glance.py); apps wake while
the store and the control API are imported, which takes longer than all the rest.

Started by the command line in the background, or by hand with `zygo server start --foreground`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import errno
import fcntl
import importlib
import json
import logging
import os
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

from zygo.engine import machine as machines
from zygo.engine.images import guest_package
from zygo.errors import AlreadyExistsError, Error, ExecutionError
from zygo.paths import refusal_of_data
from zygo.server.logs import open_server_log
from zygo.server.notify import managed, notify
from zygo.settings import Settings, split
from zygo.store.glance import Glance, glance
from zygo.version import fingerprint, version

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from zygo.engine.local import LocalEngine
    from zygo.gateway.proxy import Gateway
    from zygo.scheduler.loop import Scheduler
    from zygo.server.app_logs import AppLogs
    from zygo.server.apps import Apps
    from zygo.server.audit import Audit
    from zygo.server.deployed import DeployedApps
    from zygo.server.deployments import Deployments
    from zygo.server.environments import Environments
    from zygo.server.front import Front
    from zygo.server.ports import PortBook
    from zygo.server.proxy_tokens import ProxyTokens
    from zygo.server.secrets import Secrets
    from zygo.server.sources import SourceStore
    from zygo.server.tokens import Tokens
    from zygo.store.store import Store

log = logging.getLogger("zygo.server")

IDLE_CHECK_SECONDS = 5.0

WAKE_SECONDS = 1.0
"""How long the first of the deployed apps has the cores for itself before the store is imported, on which commands wait."""

STOP_GRACE = 8.0
"""Seconds that requests of deployed apps have to finish when the server is stopped; a command that replaces it waits longer
(STOP_SECONDS in sdk/launch.py)."""

_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

OPEN_FILES = 2**18
"""Descriptors that the server asks for, as far as the hard limit lets it."""


class Server:
    """One server. `run` is its whole life.

    Arguments:
        settings: see settings.py.
        on_demand: started by a command for itself; ends when nothing was served for `settings.idle_exit` seconds.
    """

    # Made while it starts, by parts that are imported then.
    store: Store
    machine: machines.Machine
    sources: SourceStore
    scheduler: Scheduler
    gateway: Gateway
    front: Front
    app_logs: AppLogs
    apps: Apps
    environments: Environments
    secrets: Secrets
    deployments: Deployments
    deployed: DeployedApps
    tokens: Tokens
    audit: Audit
    proxy_tokens: ProxyTokens

    def __init__(self, settings: Settings, *, on_demand: bool, foreground: bool) -> None:
        self.settings = settings
        self.on_demand = on_demand
        self.foreground = foreground
        self.started_at = time.time()
        self.fingerprint = fingerprint()
        self.log_path = settings.data_dir / "logs" / "server.log"
        self._stop = asyncio.Event()
        self._engine: LocalEngine | None = None
        self._reason = ""
        self.gateway_port = 0

    async def run(self, ready: Any) -> None:
        """Start everything, call `ready(None)`, serve until stopped. Raises Error, OSError when it cannot start."""
        settings = self.settings
        guest = await asyncio.to_thread(guest_package, settings.data_dir, self.fingerprint)
        inspecting = asyncio.create_task(
            machines.inspect(
                settings.data_dir,
                guest,
                sandbox=settings.sandbox,
                wanted_network=settings.network,
                max_containers=settings.max_containers,
                name=_name_of(settings.data_dir),
                expect=lambda machine: self._start_engine(machine, guest),
            ),
            name="inspect the machine",
        )
        glancing = asyncio.create_task(asyncio.to_thread(glance, settings), name="glance at the database")
        for _ in range(3):  # until all have begun that go on in processes and a thread while this one imports
            await asyncio.sleep(0)
        importlib.import_module("zygo.server.parts")
        self.machine = await inspecting
        if self._engine is None or self._engine.machine is not self.machine:
            if self._engine is not None:
                await self._engine.hosts.close()
            self._start_engine(self.machine, guest)
        if settings.sandbox == "require" and not self.machine.sandboxed:
            raise ExecutionError(f"ZYGO_SANDBOX=require: {self.machine.warnings[0]}")
        for text in self.machine.warnings:
            log.warning(text)
        async with contextlib.AsyncExitStack() as stack:
            await self._start_parts(guest, glancing, stack)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
            loop.add_signal_handler(signal.SIGHUP, lambda: None)
            log.info("zygo %s serves on %s:%d (pid %d)", version(), settings.host, self.gateway_port, os.getpid())
            ready(None)
            notify("READY=1")
            idle = asyncio.create_task(self._end_when_idle(), name="idle check")
            stack.callback(idle.cancel)
            await self._stop.wait()
            log.info("stopping: %s", self._reason)
            notify("STOPPING=1")
            self.app_logs.end_followers()
            await self.apps.end_sessions()
            dispatcher = self.apps.dispatcher
            assert dispatcher is not None
            spawned = asyncio.create_task(dispatcher.close(STOP_GRACE), name="end of spawned calls")
            if self.apps.in_use:
                await self.gateway.close(STOP_GRACE)
            await spawned
        log.info("stopped")

    def _start_engine(self, machine: machines.Machine, guest: Path) -> None:
        """The engine, whose image zygotes begin to start. `machine` may be a guess; then this is called again if it was wrong."""
        from zygo.engine.local import LocalEngine
        from zygo.server.sources import SourceStore

        settings = self.settings
        machine.door = settings.door
        # What the zygotes' sandboxes bind must be there. The door's directory alone is shown in them, whose uid may connect; on
        # the host nobody gets past the one above.
        settings.door.parent.mkdir(mode=0o700, exist_ok=True)
        machines.open_to_sandbox(settings.door.parent, is_root=machine.is_root)
        settings.door.mkdir(mode=0o755, exist_ok=True)
        self._engine = LocalEngine(machine, settings.runtime_dir / "c", settings.grace_period, settings.spares)
        self.sources = SourceStore(settings.data_dir, link=machine.sandboxed, is_root=machine.is_root)
        self._engine.warm_up(guest)

    async def _start_parts(
        self, guest: Path, glancing: Awaitable[Glance | None], stack: contextlib.AsyncExitStack
    ) -> None:
        from zygo.server import parts

        settings = self.settings
        engine = self._engine
        assert engine is not None
        stack.push_async_callback(engine.close)
        self.scheduler = parts.Scheduler(self.machine.max_containers, time.monotonic)
        stack.callback(self.scheduler.close)
        builder = parts.Builder(settings, uv=parts.find_uv())
        await builder.sweep()
        stack.push_async_callback(builder.close)
        self.gateway = parts.Gateway(
            max_body=settings.max_body_bytes,
            trusted_proxies=split(settings.trusted_proxies),
            response_wait=settings.web_response_wait,
            tunnels_end=settings.websocket_timeout == "connection",
        )
        stack.push_async_callback(self.gateway.close)
        book = parts.PortBook(settings.data_dir / "ports.json")
        self.gateway.hold()
        self.gateway_port = await self._listen(book)
        self.front = parts.Front(settings, self.gateway)
        stack.push_async_callback(self.front.close)
        await self.front.open(self.gateway_port)
        addresses = parts.Addresses(
            settings, self.gateway, book, self.gateway_port, names_resolve=parts.resolves_localhost_names()
        )
        self.app_logs = parts.AppLogs(settings.data_dir / "logs" / "apps", settings.log_bytes)
        stack.push_async_callback(self.app_logs.close)
        self.apps = parts.Apps(settings, self.scheduler, self.gateway, addresses, self.app_logs)
        stack.push_async_callback(self.apps.close)
        self.environments = parts.Environments()
        self.secrets = parts.Secrets(self.environments)
        self.deployments = parts.Deployments(settings, builder, engine, self.sources, self.apps, guest, self.secrets)
        self.deployed = parts.DeployedApps(settings, self.apps, self.deployments, self.environments, self.secrets)
        stack.push_async_callback(self.deployed.close)
        seen = await glancing
        if seen is not None:
            parts.show_tokens(seen.tokens, self.apps.tokens)
            self.environments.show(seen.environments)
            await self.deployed.restore(seen.apps)
            self.gateway.release()
            await self.deployed.first_awake(WAKE_SECONDS)
        await self._open_store(stack, restored=seen is not None)
        control = await asyncio.to_thread(importlib.import_module, "zygo.server.control")
        await stack.enter_async_context(control.listening(self))

    async def _open_store(self, stack: contextlib.AsyncExitStack, *, restored: bool) -> None:
        """Import and open the store, and start what needs it; without a glance that includes the deployed apps."""
        from zygo.server import parts

        module = await asyncio.to_thread(importlib.import_module, "zygo.store.store")
        self.store = await module.Store.open(self.settings)
        stack.push_async_callback(self.store.close)
        self.tokens, self.audit = parts.Tokens(self.store.access), parts.Audit(self.store.access)
        await self.tokens.load()
        stack.push_async_callback(self.tokens.close)
        await self.environments.open(self.store.environments)
        self.proxy_tokens = parts.ProxyTokens(self.store, self.apps.tokens)
        await self.proxy_tokens.load()
        if not restored:
            await self.deployed.restore_from(self.store)
            self.gateway.release()
        self.deployed.look_after(self.store)
        await asyncio.to_thread(self.sources.sweep, time.time(), await self.store.kept_hashes())

    async def _listen(self, book: PortBook) -> int:
        """The wanted port, else the one that was taken instead last time, else the next free one, which is remembered."""
        host, wanted = self.settings.host, self.settings.port
        for port in [wanted, *book.candidates("gateway")[: book.has("gateway")]] if wanted else []:
            try:
                return await self.gateway.add_listener(port, host=host)
            except OSError as error:
                # A proxy in front would send requests to whoever has the port.
                if error.errno != errno.EADDRINUSE or self.settings.proxy_port:
                    raise ExecutionError(
                        f"The gateway cannot listen on {host}:{port}: {error.strerror or error}."
                    ) from None
        got = await self.gateway.start(host, wanted)
        if wanted:
            book.remember("gateway", got)
        return got

    def stop(self, reason: str, *, replaced: bool = False) -> None:
        """End the server; with `replaced` its sessions are told to come back to the next one. May be called twice."""
        self._reason = self._reason or reason
        self.apps.end_code = "replaced" if replaced else "stopped"
        self._stop.set()

    async def _end_when_idle(self) -> None:
        limit = self.settings.idle_exit
        if not self.on_demand or not limit:
            return
        since = time.monotonic()
        while True:
            await asyncio.sleep(min(IDLE_CHECK_SECONDS, limit / 4))
            if not self.apps.empty or self.deployed.busy:
                since = time.monotonic()
            elif time.monotonic() - since >= limit:
                self.stop(f"nothing was served for {limit:g} s")
                return

    def status(self) -> dict[str, Any]:
        """What `zygo server status` shows."""
        return {
            "version": version(),
            "fingerprint": self.fingerprint,
            "pid": os.getpid(),
            "on_demand": self.on_demand,
            "managed": managed(),
            "started_at": self.started_at,
            "prefix": sys.prefix,
            "data_dir": str(self.settings.data_dir),
            "gateway": {
                "host": self.settings.host,
                "port": self.gateway_port,
                "requested_port": self.settings.port,
            },
            "control": {"host": self.settings.control_host, "port": self.settings.control_port},
            "https_port": self.settings.proxy_port or self.gateway.secure_port,
            "domain": self.settings.domain,
            "apps": self.apps.describe(),
            "containers": self.scheduler.running,
            "max_containers": self.machine.max_containers,
            "sandbox": "bubblewrap" if self.machine.sandboxed else "none",
            "network": self.machine.network,
            "limits": self.machine.cgroups.describe() if self.machine.cgroups is not None else "rlimits and a watchdog",
            "warnings": [*self.machine.warnings, *self.front.warnings()],
        }


def _name_of(data: Path) -> str:
    """A short name for this data directory: two servers on one machine keep apart by it."""
    import hashlib

    return hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]


def take_locks(settings: Settings) -> None:
    """Lock the data directory, and the runtime directory too: a second server with another data directory would take the
    first one's sockets away. Held until the process ends. Raises AlreadyExistsError when another server has one."""
    _take_lock(settings.data_dir, "ZYGO_DATA_DIR")
    if settings.runtime_dir.resolve() != settings.data_dir.resolve():
        _take_lock(settings.runtime_dir, "ZYGO_RUNTIME_DIR")


def _take_lock(directory: Path, setting: str) -> None:
    fd = os.open(directory / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise AlreadyExistsError(
            f"Another zygo server (pid {owner}) uses {directory}. `zygo server status` shows it; set {setting} for a "
            f"second one."
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())


def raise_open_files() -> None:
    """A request in flight is two descriptors and a container six: the usual soft limit of 1024 is a hundred clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def prepare_directories(settings: Settings) -> None:
    """Make the data and runtime directories. As root others may traverse the first one (the sandboxes' uids must), and
    nobody else reads what lies in it."""
    root = os.geteuid() == 0
    for directory, mode in (
        (settings.data_dir, 0o711 if root else 0o700),
        (settings.runtime_dir, 0o711 if root else 0o700),
    ):
        directory.mkdir(parents=True, exist_ok=True)
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(mode)
        elif reason := refusal_of_data(directory):
            raise ExecutionError(reason)
        elif directory == settings.runtime_dir or not os.access(directory, os.W_OK):
            # Whoever owns the runtime directory can put another socket in the place of the control API's.
            raise ExecutionError(
                f"{directory} belongs to another user. Set ZYGO_DATA_DIR and ZYGO_RUNTIME_DIR to your own."
            )
    if len(str(settings.runtime_dir)) > 80:
        raise ExecutionError(
            f"{settings.runtime_dir} is too long for sockets in it (80 characters). Set ZYGO_RUNTIME_DIR."
        )


def keep_from_children() -> None:
    """Let what this process starts have none of its capabilities: a service that listens at a low port gets one from systemd,
    and bubblewrap refuses to run with any."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m zygo.server.main`. Exit status 0 after a clean stop, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="zygo.server.main")
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--ready-fd", type=int, default=-1)
    options = parser.parse_args(argv)

    def ready(error: Exception | None) -> None:
        if options.ready_fd >= 0:
            kind = type(error).__name__ if isinstance(error, Error) else "ExecutionError"
            text = "ready\n" if error is None else json.dumps({"kind": kind, "message": str(error)}) + "\n"
            os.write(options.ready_fd, text.encode())
            os.close(options.ready_fd)
            options.ready_fd = -1

    try:
        settings = Settings()
        keep_from_children()
        os.umask(0o022)
        prepare_directories(settings)
        take_locks(settings)
        raise_open_files()
        open_server_log(settings.data_dir / "logs", settings.log_bytes, foreground=options.foreground)
        os.chdir("/")
        server = _make(settings, options)
        uvloop.run(server(ready))
    except (Error, OSError) as error:
        log.error("the server could not start: %s", error)
        ready(error)
        if options.foreground:
            print(f"zygo: {error}", file=sys.stderr)
        return 1
    return 0


def _make(settings: Settings, options: argparse.Namespace) -> Any:
    async def life(ready: Any) -> None:
        await Server(settings, on_demand=options.on_demand, foreground=options.foreground).run(ready)

    return life


if __name__ == "__main__":
    sys.exit(main())
