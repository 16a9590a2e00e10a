"""The deploy path: image, files, revision, switch. A failure at any step leaves what is served untouched."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zygo.builder.build import Builder, BuiltImage
from zygo.engine.base import Engine, Revision, RevisionPlan
from zygo.errors import ContainerError, Error, ImageBuildError, InvalidError
from zygo.model import AppSpec, FunctionSpec, ImageSpec, SourceFile, encode
from zygo.scheduler.pool import Pool
from zygo.server.apps import Apps, Generation, LiveApp, LiveFunction
from zygo.server.sources import SourceStore
from zygo.server.traffic import FunctionTraffic
from zygo.settings import Settings

log = logging.getLogger("zygo.deployments")
Emit = Callable[[dict[str, Any]], None]


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
            step, began = "app", time.monotonic()
            generation = Generation()
            try:
                if app.session.ended.is_set():
                    raise InvalidError("The command that serves this app has ended.")
                await self._name(app, spec, generation)
                step = "image"
                images = await self._build(spec, emit)
                built = time.monotonic()
                step = "import"
                await self._prepare(app, spec, images, generation)
                loaded = time.monotonic()
                step = "start"
                await self._apps.publish(app, generation)
                self._apps.switch(app, generation)
            except BaseException as error:
                app.release()
                await self._undo(app, generation)
                if not isinstance(error, Error):
                    raise
                return _failed(step, error)
            app.release()
            return {
                "type": "published",
                "revision": ",".join(revision.plan.id for revision in generation.revisions),
                "seconds": {"build": built - began, "load": loaded - built},
                "functions": [self._describe(function) for function in generation.functions.values()],
            }

    async def _name(self, app: LiveApp, spec: AppSpec, generation: Generation) -> None:
        taken: dict[str, str] = {}
        for function in spec.functions:
            if function.web is None:
                continue
            live = self._apps.function(app, function)
            if live.hostname in taken:
                raise InvalidError(
                    f"The functions {taken[live.hostname]!r} and {live.name!r} have the same hostname {live.hostname}. "
                    f"Give one of them another label=."
                )
            taken[live.hostname] = live.name
            generation.functions[function.name] = live
            await self._apps.give_address(live)
            generation.specs[function.name] = function

    async def _build(self, spec: AppSpec, emit: Emit) -> dict[str, BuiltImage]:
        images: dict[str, ImageSpec] = {_key(f.image): f.image for f in spec.functions if f.web is not None}

        def on_line(step: str, line: str) -> None:
            emit({"type": "build", "step": step, "line": line})

        built = {}
        for key, image in images.items():
            built[key] = await self._builder.build(image, on_line=on_line, blobs=self._sources.path)
        return built

    async def _prepare(
        self, app: LiveApp, spec: AppSpec, images: dict[str, BuiltImage], generation: Generation
    ) -> None:
        trees: list[Path] = []
        generation.discard = lambda: self._sources.remove(trees)
        for functions in _groups(spec):
            built = images[_key(functions[0].image)]
            identifier = f"r-{secrets.token_hex(5)}"
            files = await asyncio.to_thread(self._sources.materialise, identifier, _files(spec, functions[0].image))
            trees.append(files)
            plan = await self._plan(app, spec, functions, built, identifier, files, generation)
            revision = await self._engine.prepare(plan, app.on_log)
            generation.revisions.append(revision)
            for note in revision.notes:
                app.on_log("", "", "system", note)
            for function in functions:
                self._add_pool(app, function, revision, generation)

    async def _plan(
        self,
        app: LiveApp,
        spec: AppSpec,
        functions: list[FunctionSpec],
        built: BuiltImage,
        identifier: str,
        files: Path,
        generation: Generation,
    ) -> RevisionPlan:
        runtime = await self._builder.runtime_layer(built.interpreter)
        urls = {function.name: function.url for function in generation.functions.values()}
        prefix = built.interpreter.prefix
        binds = (built.venv,) if prefix.is_relative_to("/usr") else (built.venv, prefix)
        first = functions[0]
        return RevisionPlan(
            id=identifier,
            app=app.name,
            image=built.hash,
            python=built.python,
            binds=binds,
            path_tail=(self._guest, runtime),
            files=files,
            module=spec.module,
            app_variable=spec.app_variable,
            functions=tuple(functions),
            env=dict(first.env),
            image_env=dict(built.env),
            workdir=built.workdir,
            urls=urls,
            network="none" if first.block_network else self._settings.network,
            preload=spec.third_party,
            debug=True,
            startup_timeout=max(f.startup_timeout or f.timeout for f in functions),
        )

    def _add_pool(self, app: LiveApp, spec: FunctionSpec, revision: Revision, generation: Generation) -> None:
        live = generation.functions[spec.name]
        scheduler = self._apps.scheduler
        traffic = FunctionTraffic(live.admission, spec.policy, scheduler.poke)
        generation.traffic[spec.name] = traffic
        generation.pools[spec.name] = Pool(
            revision=revision,
            spec=spec,
            traffic=traffic,
            clock=time.monotonic,
            changed=scheduler.poke,
            log=lambda container, text: app.on_log(spec.name, container, "system", text),
            grace=self._settings.grace_period,
        )

    async def _undo(self, app: LiveApp, generation: Generation) -> None:
        self._apps.withdraw(app, generation)
        for revision in generation.revisions:
            await revision.retire()
        generation.discard()

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
