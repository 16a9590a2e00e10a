"""Deployed apps: revisions that outlive every process. What the store says is true; what runs follows from it.

deploy     publish with a proven container -> store -> switch; the revision before becomes a preview
rollback   the same with a revision that the store has kept
restore    at the server's start: every name answers at once, every app wakes (at its first request, or by and by);
           what needs the store comes after it (`look_after`), since that takes longer to open than an app to wake
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from zygo.errors import Error, InvalidError, NotFoundError
from zygo.model import MAIN, AppSpec, Provenance, encode
from zygo.server import domains
from zygo.server.deployments import How
from zygo.server.live import LiveApp
from zygo.server.waking import Waker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from zygo.model import AppRecord, RevisionRecord
    from zygo.server.apps import Apps
    from zygo.server.deployments import Deployments, Emit
    from zygo.server.environments import Environment, Environments
    from zygo.server.secrets import Secrets
    from zygo.settings import Settings
    from zygo.store.store import Store

log = logging.getLogger("zygo.deployed")

STRATEGIES = ("rolling", "recreate")
_TAG = re.compile(r"[A-Za-z0-9._-]{1,50}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")

PREVIEW_IDLE_SECONDS = 60.0
"""After this long without a request a preview that was looked at sleeps again."""

LOOK_SECONDS = 10.0


class DeployedApps:
    """Every deployed app of this server. One change of an app at a time."""

    _store: Store

    def __init__(
        self,
        settings: Settings,
        apps: Apps,
        deployments: Deployments,
        environments: Environments,
        secrets: Secrets,
    ) -> None:
        self._environments = environments
        self._secrets = secrets
        self._settings = settings
        self._apps = apps
        self._deployments = deployments
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._wakers: dict[str, Waker] = {}
        self._previews: dict[str, dict[int, LiveApp]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._restored: list[LiveApp] = []
        self._one_awake = asyncio.Event()
        self._previews_there = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether a change of an app is under way: its first image may take longer than an idle server lives."""
        return any(lock.locked() for lock in self._locks.values())

    # -- the server's life ------------------------------------------------------------------------------------------

    async def restore(self, records: Iterable[tuple[AppRecord, AppSpec]]) -> None:
        """Bring back what is deployed: names and routes now, containers in the background.

        An app that cannot be brought back is logged and left out; the others do not suffer.
        """
        for record, spec in records:
            try:
                await self._announce(record, spec)
            except (Error, OSError) as error:
                _cannot(record, error)
        self._tasks.append(asyncio.create_task(self._wake_all(), name="wake deployed apps"))

    async def restore_from(self, store: Store) -> None:
        """The same with what `store` says."""
        records = []
        for record in await store.apps():
            try:
                records.append((record, await store.spec(record.id, record.version)))
            except Error as error:
                _cannot(record, error)
        await self.restore(records)

    def look_after(self, store: Store) -> None:
        """The store is open: from now on apps can be changed, and kept revisions get their previews."""
        self._store = store
        self._tasks.append(asyncio.create_task(self._bring_previews(), name="bring previews back"))
        self._tasks.append(asyncio.create_task(self._watch_previews(), name="previews"))

    async def first_awake(self, seconds: float) -> None:
        """Return once a restored app has woken, well or not, or after `seconds`; at once when there is none."""
        if self._restored:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._one_awake.wait(), seconds)

    async def close(self) -> None:
        """Stop waking apps."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for waker in self._wakers.values():
            await waker.close()

    async def _announce(self, record: AppRecord, spec: AppSpec) -> None:
        environment = self._environments.get(record.environment)
        opened = self._apps.open_log(record.name, environment)
        app = LiveApp(record.id, record.name, "deployed", opened, environment, version=record.version)

        async def read() -> AppSpec:
            return spec  # it may wake before the store can be asked

        await self._lay_down(app, spec, read)
        self._restored.append(app)

    async def _lay_down(self, app: LiveApp, spec: AppSpec, read: Callable[[], Awaitable[AppSpec]]) -> None:
        """Give a sleeping app its names; `read` says again what it is when it wakes."""
        generation = self._deployments.announce(app, spec)
        for function in generation.functions.values():
            await self._apps.addresses.give(app, function)

        app.wake = self._wakers[app.key] = Waker(app, self._deployments, read)
        self._apps.add(app)
        self._apps.publish(app, generation)

    async def _wake_all(self) -> None:
        # One after the other: a request wakes its own app at once, and has the cores for it.
        for waker in list(self._wakers.values()):
            await waker.done()
            self._one_awake.set()

    async def _bring_previews(self) -> None:
        for app in self._restored:
            async with self._lock(app.environment, app.name):
                try:
                    if self._apps.get(app.key) is app:
                        await self._update_previews(app)
                except (Error, OSError) as error:
                    log.error("the previews of %s cannot be brought back: %s", app.name, error)
        self._previews_there.set()

    # -- what users ask for -----------------------------------------------------------------------------------------

    async def deploy(
        self, environment: Environment, name: str, spec: AppSpec, by: Provenance, strategy: str, emit: Emit
    ) -> dict[str, Any]:
        """Deploy `spec` as `name`. Returns the last event: published, unchanged, failed or missing."""
        _check(name, by, strategy)
        if not spec.functions:
            raise InvalidError(f"The app {name!r} has no functions: nothing of it could be called.")
        spec = replace(spec, name=name)
        async with self._changing(environment, name, emit):
            missing = self._deployments.missing(spec)
            if missing:
                return {"type": "missing", "sha256": missing}
            spec = await self._secrets.stamped(environment, spec)
            app, digest = self._apps.find(name, "deployed", environment), digest_of(spec)
            if app is not None and await self._digest(app) == digest:
                await self._advise(spec, emit)
                return {"type": "unchanged", "version": app.version, "functions": self._deployments.describe(app)}
            result = await self._publish(app or self._new(environment, name), spec, digest, by, strategy, emit)
            if result["type"] == "published":
                await self._advise(spec, emit)
            return result

    async def rollback(
        self, environment: Environment, name: str, version: int | None, by: Provenance, strategy: str, emit: Emit
    ) -> dict[str, Any]:
        """Make the state of a kept revision the newest one: of `version`, or of the one before the active one."""
        _check(name, by, strategy)
        async with self._changing(environment, name, emit):
            app = self.require(environment, name)
            target = await self._target(app, version)
            spec = await self._store.spec(app.key, target.version)
            by = replace(by, rollback_of=target.version, commit=target.by.commit, dirty=target.by.dirty)
            result = await self._publish(app, spec, target.digest, by, strategy, emit)
            return _complete(result, name, target.version)

    async def rollover(self, environment: Environment, name: str, strategy: str, emit: Emit) -> dict[str, Any]:
        """New containers of the same revision."""
        _check(name, None, strategy)
        async with self._changing(environment, name, emit):
            app = self.require(environment, name)
            spec = await self._store.spec(app.key, app.version)
            result = await self._deployments.publish(app, spec, emit, How(prove=True, strategy=strategy))
            return _complete(result, name, app.version)

    async def stop(self, environment: Environment, name: str) -> dict[str, Any]:
        """Stop an app for good; returns once its containers are gone. Its log and history stay."""
        async with self._changing(environment, name, lambda event: None):
            app = self.require(environment, name)
            containers = sum(pool.total for generation in app.generations for pool in generation.pools.values())
            await self._store.stop_app(app.key, time.time())
            for preview in self._previews.pop(app.key, {}).values():
                await self._end_preview(preview)
            self._wakers.pop(app.key, None)
            if self._apps.dispatcher is not None:
                await self._apps.dispatcher.cancel_app(app.key, "its app was stopped")
            await self._apps.end(app, self._settings.grace_period)
            return {"name": name, "containers": containers}

    async def history(self, environment: Environment, name: str) -> list[dict[str, Any]]:
        """Every revision of the app, newest first. Also of one that was stopped, if there is none by that name now."""
        record = await self._store.app(name, environment.id)
        if record is None:
            stopped = await self._store.apps(include_stopped=True)
            found = [app for app in stopped if (app.name, app.environment) == (name, environment.id)]
            record = max(found, key=lambda app: app.created_at, default=None)
        if record is None:
            raise self._unknown(environment, name)
        await self._previews_there.wait()
        live = self._apps.get(record.id)
        rows = []
        for revision in await self._store.revisions(record.id):
            active = live is not None and revision.version == live.version
            preview = live if active else self._previews.get(record.id, {}).get(revision.version)
            rows.append({**encode(revision), "active": active, "previews": self._preview_urls(preview, revision)})
        return rows

    async def stopped(self) -> list[dict[str, Any]]:
        """The apps that were stopped, for `zygo app list`."""
        names = {environment.id: environment.name for environment in self._environments.all}
        return [
            {**encode(record), "environment": names[record.environment]}
            for record in await self._store.apps(include_stopped=True)
            if record.stopped_at is not None and record.environment in names
        ]

    def require(self, environment: Environment, name: str) -> LiveApp:
        """The deployed app of that name. Raises NotFoundError."""
        app = self._apps.find(name, "deployed", environment)
        if app is None:
            raise self._unknown(environment, name)
        return app

    async def move(self, environment: Environment) -> dict[str, str]:
        """Its name or hostnames have changed: every app that is deployed there gets new names, and containers that know them.

        Returns, by app, why one could not be moved; it goes on under its old names until its next deploy.
        """
        failed = {}
        for app in [app for app in self._apps.all if app.kind == "deployed" and app.environment is environment]:
            try:
                for preview in self._previews.pop(app.key, {}).values():
                    await self._end_preview(preview)
                result = await self.rollover(environment, app.name, "rolling", lambda event: None)
                if result["type"] == "failed":
                    failed[app.name] = str(result.get("message"))
                async with self._lock(environment, app.name):
                    if self._apps.get(app.key) is app:
                        await self._settle(app)
            except Error as error:
                failed[app.name] = str(error)
        return failed

    # -- inside -----------------------------------------------------------------------------------------------------

    def _lock(self, environment: Environment, name: str) -> asyncio.Lock:
        return self._locks.setdefault((environment.id, name), asyncio.Lock())

    @contextlib.asynccontextmanager
    async def _changing(self, environment: Environment, name: str, emit: Emit) -> Any:
        lock = self._lock(environment, name)
        if lock.locked():
            emit({"type": "step", "text": f"Waiting for another change of {name} to end ..."})
        async with lock:
            yield

    def _new(self, environment: Environment, name: str) -> LiveApp:
        return LiveApp("", name, "deployed", self._apps.open_log(name, environment), environment)

    async def _publish(
        self, app: LiveApp, spec: AppSpec, digest: str, by: Provenance, strategy: str, emit: Emit
    ) -> dict[str, Any]:
        """Make `spec` the next revision of `app`, which has no key before its first one."""

        async def record() -> int:
            await self._deployments.sync(spec)
            revision = await self._store.add_revision(
                spec.name, digest, spec, by, time.time(), app.version, app.environment.id
            )
            if not app.key:
                app.key = revision.app_id
                self._apps.add(app)
            app.digest = digest
            return revision.version

        try:
            result = await self._deployments.publish(app, spec, emit, How(True, strategy, record))
        finally:
            if not app.key:
                app.close_log()
        if result["type"] == "published":
            await self._settle(app)
        return result

    async def _digest(self, app: LiveApp) -> str:
        """Of the active revision. The store is asked once: a deploy must get as far as it can while the store is away."""
        if not app.digest:
            app.digest = (await self._store.revision(app.key, app.version)).digest
        return app.digest

    async def _advise(self, spec: AppSpec, emit: Emit) -> None:
        """Say which DNS records its custom domains lack."""
        names = [domain for function in spec.functions for domain in domains.of(function)]
        for text in await domains.missing_records(names, self._settings.domain):
            emit({"type": "warning", "text": text})

    async def _settle(self, app: LiveApp) -> None:
        """After a new revision: older ones that are not kept are forgotten, the one before gets its preview."""
        try:
            await self._store.prune(app.key, self._settings.keep_revisions)
            await self._update_previews(app)
        except Error as error:
            log.warning("older revisions of %s could not be looked after: %s", app.name, error)

    async def _update_previews(self, app: LiveApp) -> None:
        previews = self._previews.setdefault(app.key, {})
        kept = {r.version for r in await self._store.revisions(app.key) if r.kept and r.version != app.version}
        for version in [v for v in previews if v not in kept]:
            await self._end_preview(previews.pop(version))
        for version in sorted(kept - previews.keys()):
            key = f"{app.key}@{version}"
            preview = LiveApp(key, app.name, "preview", app.log_file, app.environment, version=version)
            read = partial(self._store.spec, app.key, version)
            await self._lay_down(preview, await read(), read)
            previews[version] = preview

    async def _end_preview(self, preview: LiveApp) -> None:
        waker = self._wakers.pop(preview.key, None)
        if waker is not None:
            await waker.close()
        await self._apps.end(preview)

    async def _watch_previews(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            for preview in [p for previews in self._previews.values() for p in previews.values()]:
                used = max(
                    (a.last_active or a.made_at for a in (f.admission for f in preview.functions.values())), default=now
                )
                if preview.generations and not preview.busy and now - used > PREVIEW_IDLE_SECONDS:
                    async with preview.lock:
                        preview.wake = self._wakers.get(preview.key)
                        await self._apps.put_to_sleep(preview)

    async def _target(self, app: LiveApp, version: int | None) -> RevisionRecord:
        revisions = {r.version: r for r in await self._store.revisions(app.key)}
        kept = sorted((v for v, r in revisions.items() if r.kept and v != app.version), reverse=True)
        if version is None:
            if not kept:
                raise InvalidError(f"The app {app.name!r} has no earlier revision to go back to.")
            return revisions[kept[0]]
        if version == app.version:
            raise InvalidError(f"v{version} is the active revision of {app.name!r} already.")
        if version in revisions and not revisions[version].kept:
            raise InvalidError(
                f"v{version} of {app.name!r} is no longer kept. Kept are {_listed(kept)}; ZYGO_KEEP_REVISIONS says how many."
            )
        if version not in revisions:
            raise NotFoundError(f"The app {app.name!r} has no v{version}. It can go back to {_listed(kept)}.")
        return revisions[version]

    def _preview_urls(self, app: LiveApp | None, revision: RevisionRecord) -> dict[str, str]:
        urls = {}
        for function in app.functions.values() if app is not None else ():
            assert function.spec is not None
            if function.spec.web is None:
                continue
            label = self._apps.addresses.label(app, function.spec, f"v{revision.version}")  # type: ignore[arg-type]
            urls[function.name] = self._apps.addresses.url(self._apps.addresses.hostname(label))
        return urls

    def _unknown(self, environment: Environment, name: str) -> NotFoundError:
        deployed = [app for app in self._apps.all if app.kind == "deployed"]
        known = sorted({app.name for app in deployed if app.environment is environment})
        there = f"Deployed are: {', '.join(known)}." if known else "None is deployed here yet."
        others = sorted({app.environment.name for app in deployed if app.name == name})
        elsewhere = f" It is deployed in {', '.join(others)}: say --env." if others else ""
        place = "" if environment.id == MAIN else f" in the environment {environment.name!r}"
        return NotFoundError(f"There is no deployed app {name!r}{place}. {there}{elsewhere}")


def _cannot(record: AppRecord, error: Exception) -> None:
    log.error("the app %s cannot be brought back: %s", record.name, error)


def digest_of(spec: AppSpec) -> str:
    """What tells two states of an app apart; not what only helps or warns."""
    state = encode(replace(spec, warnings=(), third_party=()))
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _complete(result: dict[str, Any], name: str, version: int) -> dict[str, Any]:
    """`result`, unless files of that revision are gone from the disk: only who has the sources can send them."""
    if result["type"] != "missing":
        return result
    raise NotFoundError(
        f"{len(result['sha256'])} files of {name} v{version} are gone from the server's data directory. "
        f"Deploy its sources again."
    )


def _check(name: str, by: Provenance | None, strategy: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} is not a name of an app: letters, digits, dashes, dots and underscores, at most 63."
        )
    if strategy not in STRATEGIES:
        raise InvalidError(f"{strategy!r} is not a strategy: use {' or '.join(STRATEGIES)}.")
    if by is not None and by.tag and not _TAG.fullmatch(by.tag):
        raise InvalidError(f"{by.tag!r} is not a tag: letters, digits, dashes, dots and underscores, at most 50.")


def _listed(versions: list[int]) -> str:
    return ", ".join(f"v{version}" for version in versions) or "none"
