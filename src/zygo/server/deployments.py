"""The deploy path: image, files, revision, switch. A failure at any step leaves what is served untouched."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zygo.engine.base import Engine, Revision, RevisionPlan
from zygo.errors import ContainerError, Error, ImageBuildError, InvalidError
from zygo.model import AppSpec, FunctionSpec, ImageSpec, SourceFile, encode
from zygo.scheduler.pool import Pool
from zygo.server.apps import Apps, Generation, LiveApp, LiveFunction
from zygo.server.traffic import FunctionTraffic

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.builder.build import Builder, BuiltImage
    from zygo.server.sources import SourceStore
    from zygo.settings import Settings

log = logging.getLogger("zygo.deployments")
Emit = Callable[[dict[str, Any]], None]


@dataclass
class _Publication:
    """One publish under way: what is wanted, and what was made of it so far."""

    app: LiveApp
    spec: AppSpec
    emit: Emit
    step: str = "app"
    generation: Generation = field(default_factory=Generation)
    images: dict[str, BuiltImage] = field(default_factory=dict)
    runtimes: dict[str, Path] = field(default_factory=dict)


class Deployments:
    """Publishes apps. Everything that a step makes and a later one fails to use is removed again."""

    def __init__(
        self, settings: Settings, builder: Builder, engine: Engine, sources: SourceStore, apps: Apps, guest: Path
    ) -> None:
        self._settings = settings
        self._builder = builder
        self._engine = engine
        self._sources = sources
        self._apps = apps
        self._guest = guest

    async def publish(self, app: LiveApp, spec: AppSpec, emit: Emit) -> dict[str, Any]:
        """Make `spec` what `app` serves. Returns the last event: `published`, `failed` or `missing`."""
        missing = self._sources.missing(_hashes(spec))
        if missing:
            return {"type": "missing", "sha256": missing}
        async with app.lock:
            work = _Publication(app, spec, emit)
            began = time.monotonic()
            try:
                await self._name(work)
                work.step = "image"
                await self._build(work)
                built = time.monotonic()
                work.step = "import"
                await self._prepare(work)
                loaded = time.monotonic()
                work.step = "start"
                await self._apps.publish(app, work.generation)
                self._apps.switch(app, work.generation)
            except BaseException as error:
                app.release()
                await self._undo(work)
                if not isinstance(error, Error):
                    raise
                return _failed(work.step, error)
            app.release()
            return {
                "type": "published",
                "revision": ",".join(revision.plan.id for revision in work.generation.revisions),
                "seconds": {"build": built - began, "load": loaded - built},
                "functions": [self._describe(function) for function in work.generation.functions.values()],
            }

    async def _name(self, work: _Publication) -> None:
        if work.app.session.ended.is_set():
            raise InvalidError("The command that serves this app has ended.")
        if work.spec.name != work.app.name:
            work.app.note(
                f"The app is called {work.spec.name!r} now; it goes on as {work.app.name!r} until `zygo serve` is started again."
            )
        taken: dict[str, str] = {}
        for function in work.spec.functions:
            if function.web is None:
                continue
            live = self._apps.function(work.app, function)
            if live.hostname in taken:
                raise InvalidError(
                    f"The functions {taken[live.hostname]!r} and {live.name!r} have the same hostname {live.hostname}. "
                    f"Give one of them another label=."
                )
            taken[live.hostname] = live.name
            work.generation.functions[function.name] = live
            work.generation.specs[function.name] = function
            await self._apps.give_address(live)

    async def _build(self, work: _Publication) -> None:
        def on_line(step: str, line: str) -> None:
            work.emit({"type": "build", "step": step, "line": line})

        async def build(image: ImageSpec) -> None:
            built = await self._builder.build(image, on_line=on_line, blobs=self._sources.path)
            work.images[_key(image)] = built

        async def runtime(version: str) -> None:
            interpreter = await self._builder.interpreter(version, on_line=on_line)
            work.runtimes[version] = await self._builder.runtime_layer(interpreter, on_line=on_line)

        images = {_key(f.image): f.image for f in work.spec.functions if f.web is not None}
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
            identifier = f"r-{secrets.token_hex(5)}"
            files = _files(work.spec, functions[0].image)
            trees.append(await asyncio.to_thread(self._sources.materialise, identifier, files))
            plan = self._plan(work, functions, trees[-1])
            revision = await self._engine.prepare(plan, work.app.on_log)
            work.generation.revisions.append(revision)
            for note in revision.notes:
                work.app.note(note)
            for function in functions:
                self._add_pool(work, function, revision)

    def _plan(self, work: _Publication, functions: list[FunctionSpec], files: Path) -> RevisionPlan:
        first = functions[0]
        built = work.images[_key(first.image)]
        prefix = built.interpreter.prefix
        return RevisionPlan(
            id=files.name,
            app=work.app.name,
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
            urls={function.name: function.url for function in work.generation.functions.values()},
            network="none" if first.block_network else self._settings.network,
            preload=work.spec.third_party,
            debug=True,
            startup_timeout=max(f.startup_timeout or f.timeout for f in functions),
        )

    def _add_pool(self, work: _Publication, spec: FunctionSpec, revision: Revision) -> None:
        generation, scheduler = work.generation, self._apps.scheduler
        traffic = FunctionTraffic(generation.functions[spec.name].admission, spec.policy, scheduler.poke)
        generation.traffic[spec.name] = traffic
        generation.pools[spec.name] = Pool(
            revision=revision,
            spec=spec,
            traffic=traffic,
            clock=time.monotonic,
            changed=scheduler.poke,
            log=lambda container, text: work.app.on_log(spec.name, container, "system", text),
            grace=self._settings.grace_period,
        )

    async def _undo(self, work: _Publication) -> None:
        self._apps.withdraw(work.app, work.generation)
        for revision in work.generation.revisions:
            await revision.retire()
        work.generation.discard()

    def _describe(self, function: LiveFunction) -> dict[str, Any]:
        spec = function.spec
        assert spec is not None
        assert spec.web is not None
        return {
            "name": function.name,
            "url": function.url,
            "hostname_url": function.hostname_url,
            "method": spec.web.method if spec.web.kind == "fastapi_endpoint" else "",
            "sample": spec.web.sample,
            "note": "its hostname was shortened to 63 characters" if function.label.truncated else "",
        }


def _groups(spec: AppSpec) -> list[list[FunctionSpec]]:
    """Functions that can share a zygote: the same image, environment and network."""
    groups: dict[str, list[FunctionSpec]] = {}
    for function in spec.functions:
        if function.web is not None:
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


def _hashes(spec: AppSpec) -> list[str]:
    found = [file.sha256 for file in spec.files]
    for function in spec.functions:
        for file in _files(AppSpec(spec.name, spec.module), function.image):
            found.append(file.sha256)
    return found


def _failed(step: str, error: Error) -> dict[str, Any]:
    event = {"type": "failed", "step": step, "kind": type(error).__name__, "message": str(error)}
    if isinstance(error, ContainerError) and error.traceback:
        event["traceback"] = error.traceback
    if isinstance(error, ImageBuildError):
        event |= {"build_step": error.step, "command": error.command, "output": error.output}
    return event
