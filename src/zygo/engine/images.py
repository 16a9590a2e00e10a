"""The image zygotes of this machine: one per image (and per value of what a library reads at import), kept warm."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.engine.base import RevisionPlan
from zygo.errors import ContainerError, Error
from zygo.runtime.limits import Group, Limits, remove_group
from zygo.runtime.sandbox import SandboxPlan, bubblewrap_command, root_launcher
from zygo.runtime.zygote import ImageZygote, OnLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.machine import Machine

log = logging.getLogger("zygo.engine")

ALWAYS = (
    "zygo.guest.serve",
    "zygo.guest.revision",
    "cloudpickle",
    "zygo.sdk.mapping",
    "fastapi",
    "fastapi.middleware.cors",
    "fastapi.responses",
    # Looked up by name in the first request: anyio's backend when a sync handler goes to a thread, pydantic's old API when
    # FastAPI encodes an answer. Together 80 ms that the first caller of every container would wait.
    "anyio._backends._asyncio",
    "pydantic.v1",
)
"""What every web function needs, imported ahead in every image."""

GROUP_PREFIX = "image-"
"""How the control groups of image zygotes are called."""

WARM_AT_START = 2
"""Image zygotes that a server starts before anybody asks, those used last first: 30 MB and half a second of a core each."""

UNUSED_SECONDS = 300.0
"""How long an image zygote without a revision is kept: a developer who stops `serve` and starts it again finds it warm."""


class ImageHost:
    """One running image zygote and how many revisions stand on it."""

    def __init__(self, key: tuple[str, ...], seen_file: Path, on_end: Callable[[ImageHost], None]) -> None:
        self.key = key
        self.users = 0
        self.environ: frozenset[str] = frozenset()
        self.zygote = ImageZygote(lambda: on_end(self))
        self.expiry: asyncio.TimerHandle | None = None
        self.group: Group | None = None
        self._seen_file = seen_file
        self._loaded: set[str] = set()

    async def preload(self, modules: tuple[str, ...]) -> str | None:
        """Import what is wanted and what this image's functions imported before; names the module that killed it."""
        wanted = [
            *ALWAYS,
            *sorted({*modules, *_read_seen(self._seen_file)} - set(_read_seen(self._bad_file))),
        ]
        report = await self.zygote.preload(wanted)
        self.environ = report.environ
        self._loaded = set(wanted)
        if report.crashed_on is not None:
            _write_seen(self._bad_file, {*_read_seen(self._bad_file), report.crashed_on})
        return report.crashed_on

    def learn(self, modules: tuple[str, ...]) -> bool:
        """Remember what a revision imported, for the next zygote of this image; whether that one will have more than this."""
        seen = set(_read_seen(self._seen_file))
        if not set(modules) <= seen:
            _write_seen(self._seen_file, seen | set(modules))
        return not set(modules) <= self._loaded | set(_read_seen(self._bad_file))

    async def close(self) -> None:
        """Kill it and all that it forked, reap it, and remove its cgroup. May be called twice."""
        await self.zygote.close()
        if self.group is not None:
            group, self.group = self.group, None
            await remove_group(group)

    @property
    def _bad_file(self) -> Path:
        return self._seen_file.with_suffix(".unsafe")


class ImageHosts:
    """Starts, shares and ends image zygotes."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._hosts: dict[tuple[str, ...], ImageHost] = {}
        self._environ: dict[str, frozenset[str]] = {}
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._closing: set[asyncio.Task[None]] = set()
        self._retired: set[ImageHost] = set()
        self._warming: asyncio.Task[None] | None = None

    def warm_up(self, guest: Path) -> None:
        """Begin to start the zygotes that an earlier server used last, as far as they can still be. Returns at once."""
        plans = _remembered(self.machine.state, guest)[:WARM_AT_START]
        if plans:
            self._warming = asyncio.get_running_loop().create_task(self._warm_up(plans), name="warm up")

    async def _warm_up(self, plans: list[RevisionPlan]) -> None:
        for plan in plans:
            try:
                await self.release(await self.acquire(plan, lambda stream, text: log.info("%s", text)))
            except (Error, OSError) as error:  # whoever needs it will be told
                log.info("the zygote of image %s cannot be started ahead: %s", plan.image, error)

    async def acquire(self, plan: RevisionPlan, on_line: OnLine) -> ImageHost:
        """The zygote for `plan`, started when there is none. Raises ContainerError. Give it back with `release`."""
        async with self._lock:
            host = await self._find_or_start(plan, self._key(plan), on_line)
            # Only once its libraries were imported is it known which variables they read meanwhile.
            better = self._key(plan)
            if better != host.key:
                self._expire_when_unused(host)
                host = await self._find_or_start(plan, better, on_line)
            host.users += 1
            if host.expiry is not None:
                host.expiry.cancel()
                host.expiry = None
            return host

    async def release(self, host: ImageHost) -> None:
        """One revision less."""
        host.users -= 1
        if host not in self._retired:
            self._expire_when_unused(host)
        elif not host.users:
            self._retired.discard(host)
            self._reap_later(host)

    async def retire(self, host: ImageHost) -> None:
        """Have the next revision get a new zygote; this one ends with its last revision."""
        if self._hosts.get(host.key) is host:
            del self._hosts[host.key]
            host.users += 1
            self._retired.add(host)
            if host.expiry is not None:
                host.expiry.cancel()
                host.expiry = None
            await self.release(host)

    async def close(self) -> None:
        """End them all."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait({self._warming})
        for host in [*self._hosts.values(), *self._retired]:
            if host.expiry is not None:
                host.expiry.cancel()
            await host.close()
        self._hosts.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _key(self, plan: RevisionPlan) -> tuple[str, ...]:
        read = self._environ.get(plan.image, frozenset())
        env = {**plan.image_env, **plan.env}
        own = sorted(f"{name}={env[name]}" for name in env if name in read and name not in plan.image_env)
        return (plan.image, (self.machine.network_for(plan.network) == "host" and "host") or "", *own)

    async def _find_or_start(self, plan: RevisionPlan, key: tuple[str, ...], on_line: OnLine) -> ImageHost:
        host = self._hosts.get(key)
        if host is not None and host.zygote.alive:
            return host
        for _ in range(4):
            host = ImageHost(key, self.machine.state / f"{plan.image}.modules", self._forget)
            own = dict(pair.split("=", 1) for pair in key[2:])
            try:
                await self._start(host, plan, own, on_line)
                crashed_on = await host.preload(plan.preload)
            except BaseException:
                await host.close()
                raise
            if crashed_on is None:
                if not own:
                    _remember(self.machine.state, plan)
                self._hosts[key] = host
                self._environ[plan.image] = host.environ
                return host
            on_line(
                "stderr",
                f"Importing {crashed_on} ahead killed the process; it is left to the app from now on.",
            )
            await host.close()
        raise ContainerError("The image's zygote dies while libraries are imported.")

    def _forget(self, host: ImageHost) -> None:
        if self._hosts.get(host.key) is host:
            del self._hosts[host.key]
        self._reap_later(host)

    def _expire_when_unused(self, host: ImageHost) -> None:
        if host.users > 0 or not host.zygote.alive:
            return

        def expire() -> None:
            if host.users == 0:
                self._forget(host)

        if host.expiry is None:
            host.expiry = asyncio.get_running_loop().call_later(UNUSED_SECONDS, expire)

    def _reap_later(self, host: ImageHost) -> None:
        task = asyncio.get_running_loop().create_task(host.close(), name="reap image zygote")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _start(self, host: ImageHost, plan: RevisionPlan, own: dict[str, str], on_line: OnLine) -> None:
        fds: list[int] = []
        if self.machine.cgroups is not None:
            # No user code, but other people's: half of the machine at most, like what sets no limit.
            limits = Limits(memory=self.machine.memory_bytes // 2)
            host.group = self.machine.cgroups.create(f"{GROUP_PREFIX}{next(self._numbers):x}", limits)
            fds = host.group.open_join()
        try:
            command, arguments, environment = self._command(plan, own, fds)
            await host.zygote.start(command, arguments, environment, on_line, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _command(
        self, plan: RevisionPlan, own: dict[str, str], cgroup_fds: list[int]
    ) -> tuple[list[str], Callable[[int], list[str]], dict[str, str]]:
        machine, (guest, runtime) = self.machine, plan.path_tail
        environment = {**base_environment(plan), **plan.image_env, **own}
        options = json.dumps(
            {
                "guest": str(guest),
                "runtime": str(runtime),
                "sandboxed": machine.sandboxed,
                "cgroups": cgroup_fds,
            }
        )
        python = [str(plan.python), "-B", str(guest / "zygo" / "guest" / "main.py")]

        def arguments(control: int) -> list[str]:
            return [str(control), options]

        if not machine.sandboxed:
            # Without a sandbox there is no /root of their own to write to.
            environment["HOME"] = tempfile.gettempdir() if machine.is_root else str(Path.home())
            return (root_launcher([], python) if machine.drop_root else python), arguments, environment
        sandbox = SandboxPlan(
            binds=(*plan.binds, guest, runtime),
            etc=machine.etc_for(plan.network),
            revisions=plan.files.parent,
            environment=environment,
            share_network=machine.network_for(plan.network) == "host",
            door=machine.door,
        )
        assert machine.bwrap is not None
        return (
            bubblewrap_command(sandbox, machine.bwrap, python, as_root=machine.is_root),
            arguments,
            dict(os.environ),
        )


def base_environment(plan: RevisionPlan) -> dict[str, str]:
    """The environment of every process in a sandbox, before the image's, the secrets' and the function's."""
    search = [
        str(plan.python.parent),
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    return {
        "PATH": os.pathsep.join(search),
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
        "VIRTUAL_ENV": str(plan.python.parent.parent),
        "PYTHONUNBUFFERED": "1",
        "ZYGO_IS_REMOTE": "1",
        "MODAL_IS_REMOTE": "1",
    }


def _remember(state: Path, plan: RevisionPlan) -> None:
    """Note what the zygote of this image was made of; nothing of a revision's own is in it."""
    found = {
        "python": str(plan.python),
        "binds": [str(path) for path in plan.binds],
        "path_tail": [str(path) for path in plan.path_tail],
        "revisions": str(plan.files.parent),
        "image_env": plan.image_env,
        "network": plan.network,
        "preload": plan.preload,
    }
    staged = state / f".{plan.image}.{os.getpid()}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps(found))
        staged.replace(state / f"{plan.image}.zygote")
    except OSError as error:
        log.warning("the zygote of image %s cannot be remembered: %s", plan.image, error)


def _remembered(state: Path, guest: Path) -> list[RevisionPlan]:
    """What `_remember` noted, the last first, without those whose image or guest package is another one by now."""
    plans = []
    for path in sorted(state.glob("*.zygote"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            found = json.loads(path.read_text())
            plan = RevisionPlan(
                id="",
                app="",
                image=path.stem,
                python=Path(found["python"]),
                binds=tuple(map(Path, found["binds"])),
                path_tail=(Path(found["path_tail"][0]), Path(found["path_tail"][1])),
                files=Path(found["revisions"], "none"),
                module="",
                app_variable="",
                functions=(),
                image_env=dict(found["image_env"]),
                network=str(found["network"]),
                preload=tuple(found["preload"]),
            )
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if plan.path_tail[0] == guest and all(part.exists() for part in (plan.python, *plan.binds, *plan.path_tail)):
            plans.append(plan)
    return plans


def _read_seen(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line]
    except OSError:
        return []


def _write_seen(path: Path, names: set[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    staged.write_text("".join(f"{name}\n" for name in sorted(names)))
    staged.replace(path)


def guest_package(data: Path, fingerprint: str) -> Path:
    """A copy of this package for the sandboxes, made once per version: they must be able to read it whoever owns ours,
    and an upgrade must not change what runs. Returns the directory to put on the path."""
    target = data / "guest" / fingerprint
    if not target.is_dir():
        source = Path(sys.modules["zygo"].__file__ or "").parent
        staged = data / "guest" / f".{fingerprint}.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        for part in ("sdk", "guest"):
            shutil.copytree(
                source / part,
                staged / "zygo" / part,
                ignore=shutil.ignore_patterns("__pycache__", "client.py"),
            )
        for path in source.glob("*.py"):
            if path.name != "settings.py":
                shutil.copyfile(path, staged / "zygo" / path.name)
        for path in [staged, *staged.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            staged.rename(target)
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)  # another server of this data directory was faster
    return target
