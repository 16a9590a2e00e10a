"""The deploy path: image, files, revision, switch. A failure at any step leaves what is served untouched."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from zygo.engine.base import Engine, RevisionPlan
from zygo.errors import ContainerError, Error, ImageBuildError, InvalidError
from zygo.model import AppSpec, FunctionSpec, ImageSpec, SourceFile, encode
from zygo.server import domains
from zygo.server.faults import explained
from zygo.server.live import Generation, LiveApp, LiveFunction

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.builder.build import Builder, BuiltImage
    from zygo.scheduler.pool import Pool
    from zygo.server.apps import Apps
    from zygo.server.secrets import Secrets
    from zygo.server.sources import SourceStore
    from zygo.settings import Settings

log = logging.getLogger("zygo.deployments")
Emit = Callable[[dict[str, Any]], None]


RECREATE_SLACK = 5.0
"""Seconds beyond all limits for which requests wait while `recreate` has no container to give them."""


@dataclass(frozen=True)
class How:
    """How to publish.

    Attributes:
        prove: a container of each function must have become ready before anything is switched.
        strategy: "rolling", or "recreate": the old containers are gone before the first new one starts.
        record: makes it durable, right before the switch, and gives the version's number; what it raises stops the
            publication. From its beginning on nothing is cancelled any more.
        wanted: asked once it is this publication's turn; False gives it up.
    """

    prove: bool = False
    strategy: str = "rolling"
    record: Callable[[], Awaitable[int]] | None = None
    wanted: Callable[[], bool] = lambda: True


@dataclass
class _Publication:
    """One publish under way: what is wanted, and what was made of it so far."""

    app: LiveApp
    spec: AppSpec
    emit: Emit
    how: How
    step: str = "app"
    stood_down: bool = False
    generation: Generation = field(default_factory=Generation)
    images: dict[str, BuiltImage] = field(default_factory=dict)
    runtimes: dict[str, Path] = field(default_factory=dict)


class Deployments:
    """Publishes apps. Everything that a step makes and a later one fails to use is removed again."""

    def __init__(
        self,
        settings: Settings,
        builder: Builder,
        engine: Engine,
        sources: SourceStore,
        apps: Apps,
        guest: Path,
        secrets: Secrets,
    ) -> None:
        self._secrets = secrets
        self._settings = settings
        self._builder = builder
        self._engine = engine
        self._sources = sources
        self._apps = apps
        self._guest = guest

    async def publish(self, app: LiveApp, spec: AppSpec, emit: Emit, how: How | None = None) -> dict[str, Any]:
        """Make `spec` what `app` serves. Returns the last event: `published`, `failed`, `missing` or `unwanted`."""
        missing = self.missing(spec)
        if missing:
            return {"type": "missing", "sha256": missing}
        how = how or How()
        async with app.lock:
            if not how.wanted():
                return {"type": "unwanted"}
            work = _Publication(app, spec, emit, how)
            began = time.monotonic()
            try:
                work.spec = await self._secrets.filled(app.environment, spec)
                await self._name(work)
                work.step = "image"
                await self._build(work)
                built = time.monotonic()
                work.step = "import"
                await self._prepare(work)
                loaded = time.monotonic()
                work.step = "start"
                await self._start(work)
                work.step = "switch"
                await _to_the_end(self._go_live(work))
            except BaseException as error:
                app.release()
                await self._undo(work)
                if isinstance(error, OSError):
                    log.exception("publishing %s failed", app.name)
                    error = explained(error)
                if not isinstance(error, Error):
                    raise
                return _failed(work, error)
            app.release()
            seconds = {"build": built - began, "load": loaded - built, "start": time.monotonic() - loaded}
            return {
                "type": "published",
                "revision": ",".join(revision.plan.id for revision in work.generation.revisions),
                "version": app.version,
                "seconds": seconds if work.how.prove else {key: seconds[key] for key in ("build", "load")},
                "functions": self.describe(app),
            }

    def missing(self, spec: AppSpec) -> list[str]:
        """The hashes of what must be sent before `spec` can be published."""
        return self._sources.missing(file_hashes(spec))

    async def sync(self, spec: AppSpec) -> None:
        """What `spec` needs is on the disk itself. Before it is recorded: a record outlives a power failure."""
        await asyncio.to_thread(self._sources.sync, file_hashes(spec))

    def announce(self, app: LiveApp, spec: AppSpec) -> Generation:
        """The names of an app, without anything that runs; whoever publishes them sets `app.wake` first."""
        generation = Generation()
        for function in spec.functions:
            generation.functions[function.name] = self._apps.function(app, function, generation.functions)
            generation.specs[function.name] = function
        return generation

    async def _start(self, work: _Publication) -> None:
        """Prove that a container of each function starts, before anything is switched."""
        if not work.how.prove:
            return
        if work.how.strategy == "recreate" and work.app.generations:
            work.emit({"type": "step", "text": "Stopping the containers of the revision before ..."})
            grace = self._settings.grace_period
            longest = max((pool.spec.startup_timeout or pool.spec.timeout) for pool in work.generation.pools.values())
            work.stood_down = True
            await self._apps.stand_down(work.app, grace, grace + longest + RECREATE_SLACK)
        try:
            async with asyncio.TaskGroup() as group:
                for pool in work.generation.pools.values():
                    if pool.spec.variant is None and not pool.spec.needs_values:
                        group.create_task(self._prove(work, pool))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _prove(self, work: _Publication, pool: Pool) -> None:
        name = pool.spec.name
        before = [old.pools[name] for old in work.app.generations if name in old.pools]

        def on_wait() -> None:
            text = f"{name} has max_containers={pool.spec.policy.max_containers}, and one more during a switch: waiting until one"
            work.emit({"type": "step", "text": f"{text} of its earlier revisions has finished what it serves ..."})

        async with self._apps.scheduler.proving(pool, before, on_wait):
            await pool.prove()

    async def _go_live(self, work: _Publication) -> None:
        with self._apps.claim(work.app, work.generation):
            if work.how.record is not None:
                work.step = "record"
                work.app.version = await work.how.record()
            self._apps.publish(work.app, work.generation)
            self._apps.switch(work.app, work.generation)
        work.app.wake = None

    async def _name(self, work: _Publication) -> None:
        if work.app.session is not None and work.app.session.ended.is_set():
            raise InvalidError("The command that serves this app has ended.")
        if work.spec.name != work.app.name:
            work.app.note(
                f"The app is called {work.spec.name!r} now; it goes on as {work.app.name!r} until `zygo serve` is started again."
            )
        self._apps.check_domains(work.app, work.spec.functions)
        taken: dict[str, str] = {}
        for function in work.spec.functions:
            live = self._apps.function(work.app, function, work.generation.functions)
            if live.hostname and live.hostname in taken:
                raise InvalidError(
                    f"The functions {taken[live.hostname]!r} and {live.name!r} have the same hostname {live.hostname}. "
                    f"Give one of them another label=."
                )
            taken[live.hostname] = live.name
            work.generation.functions[function.name] = live
            work.generation.specs[function.name] = function
            await self._apps.addresses.give(work.app, live)
        for live, variant in self._apps.variants.specs(work.app, dict(work.generation.specs)):
            work.generation.functions[live.name] = live
            work.generation.specs[live.name] = variant

    async def _build(self, work: _Publication) -> None:
        def on_line(step: str, line: str) -> None:
            work.emit({"type": "build", "step": step, "line": line})

        async def build(image: ImageSpec) -> None:
            built = await self._builder.build(image, on_line=on_line, blobs=self._sources.path)
            work.images[_key(image)] = built

        async def runtime(version: str) -> None:
            interpreter = await self._builder.interpreter(version, on_line=on_line)
            work.runtimes[version] = await self._builder.runtime_layer(interpreter, on_line=on_line)
            self._builder.compile_guest(self._guest, interpreter)

        images = {_key(f.image): f.image for f in work.spec.functions}
        try:
            async with asyncio.TaskGroup() as group:
                for image in images.values():
                    group.create_task(build(image))
                for version in {image.python_version for image in images.values()}:
                    group.create_task(runtime(version))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _prepare(self, work: _Publication) -> None:
        trees: list[Path] = []
        work.generation.discard = lambda: self._sources.remove(trees)
        for functions in _groups(work.spec):
            identifier = f"r-{token_hex(5)}"
            files = _files(work.spec, functions[0].image)
            trees.append(await asyncio.to_thread(self._sources.materialise, identifier, files))
            plan = self._plan(work, functions, trees[-1])
            revision = await self._engine.prepare(plan, work.app.on_log)
            work.generation.revisions.append(revision)
            for note in revision.notes:
                work.app.note(note)
            named = {function.name for function in functions}
            for spec in work.generation.specs.values():
                if not spec.owner and (spec.variant.of if spec.variant is not None else spec.name) in named:
                    live = work.generation.functions[spec.name]
                    self._apps.make_pool(work.app, work.generation, live, spec, revision)

    def _plan(self, work: _Publication, functions: list[FunctionSpec], files: Path) -> RevisionPlan:
        first = functions[0]
        built = work.images[_key(first.image)]
        prefix = built.interpreter.prefix
        return RevisionPlan(
            id=files.name,
            app=work.app.name,
            address=work.app.address,
            environment=work.app.environment.name,
            image=built.hash,
            python=built.python,
            binds=(built.venv,) if prefix.is_relative_to("/usr") else (built.venv, prefix),
            path_tail=(self._guest, work.runtimes[first.image.python_version]),
            files=files,
            module=work.spec.module,
            app_variable=work.spec.app_variable,
            functions=tuple(functions),
            env=dict(first.env),
            image_env=dict(built.env),
            workdir=built.workdir,
            urls={function.name: function.url for function in work.generation.functions.values() if function.url},
            network="none" if first.block_network else self._settings.network,
            preload=work.spec.third_party,
            debug=work.app.debug,
            startup_timeout=max(f.startup_timeout or f.timeout for f in functions),
        )

    async def _undo(self, work: _Publication) -> None:
        for pool in work.generation.pools.values():
            await pool.close(0.0)
        if work.stood_down:
            self._apps.stand_up(work.app)
        self._apps.withdraw(work.app, work.generation)
        for revision in work.generation.revisions:
            await revision.retire()
        work.generation.discard()

    def describe(self, app: LiveApp) -> list[dict[str, Any]]:
        """What the command line shows of each function of a published app."""
        return [
            self._describe(app, function)
            for function in app.functions.values()
            if function.spec is not None and function.spec.variant is None and not function.spec.is_class
        ]

    def _describe(self, app: LiveApp, function: LiveFunction) -> dict[str, Any]:
        spec = function.spec
        assert spec is not None
        if spec.web is None or function.label is None:
            return {"name": function.name, "url": ""}
        return {
            "name": function.name,
            "url": function.url,
            "hostname_url": function.hostname_url,
            "port": function.port,
            "custom_domains": [self._apps.addresses.url(name) for name in domains.of(spec)]
            if app.kind == "deployed"
            else [],
            "method": spec.web.method if spec.web.kind == "fastapi_endpoint" else "",
            "sample": spec.web.sample,
            "note": "its hostname was shortened to 63 characters" if function.label.truncated else "",
            "protected": spec.web.requires_proxy_auth,
        }


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` even when the caller is cancelled meanwhile: half of it would be recorded and not served."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            return  # it is live; whoever asked is not there to hear it
        raise


def _groups(spec: AppSpec) -> list[list[FunctionSpec]]:
    """Functions that can share a zygote: the same image, environment and network."""
    groups: dict[str, list[FunctionSpec]] = {}
    for function in spec.functions:
        if function.owner:
            continue  # it is in its class's
        key = json.dumps([encode(function.image), sorted(function.env.items()), function.block_network])
        groups.setdefault(key, []).append(function)
    return list(groups.values())


def _key(image: ImageSpec) -> str:
    return json.dumps(encode(image), sort_keys=True)


def _files(spec: AppSpec, image: ImageSpec) -> list[SourceFile]:
    """The revision's own files over those that its image brought with copy=True."""
    files = {}
    for step in image.steps:
        if step.kind == "add_local":
            for remote, sha256, mode in step.args["files"]:
                files[remote] = SourceFile(remote, sha256, 0, int(mode))
    files.update({file.remote_path: file for file in spec.files})
    return list(files.values())


def file_hashes(spec: AppSpec) -> list[str]:
    """Every content that a revision of `spec` needs."""
    found = [file.sha256 for file in spec.files]
    for function in spec.functions:
        for file in _files(AppSpec(spec.name, spec.module), function.image):
            found.append(file.sha256)
    return found


def _failed(work: _Publication, error: Error) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "failed", "step": work.step, "version": work.app.version}
    event |= {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, ContainerError) and error.traceback:
        event["traceback"] = error.traceback
    if isinstance(error, ImageBuildError):
        event |= {"build_step": error.step, "command": error.command, "output": error.output}
    return event
