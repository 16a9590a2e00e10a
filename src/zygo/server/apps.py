"""The registry of live apps: opened, switched to new generations, ended; and the gateway's table that follows from them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zygo.errors import ConflictError, Error, InvalidError, NotFoundError, StoreError
from zygo.gateway.admission import Admission
from zygo.gateway.proxy_auth import Tokens
from zygo.gateway.routes import Endpoint, RequestRecord, Routes
from zygo.model import MAIN
from zygo.scheduler.pool import Pool
from zygo.server import domains
from zygo.server.live import Generation, LiveApp, LiveFunction
from zygo.server.remote_sessions import RemoteSession
from zygo.server.sessions import Session
from zygo.server.traffic import FunctionTraffic
from zygo.server.variants import Variants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zygo.engine.base import Revision
    from zygo.gateway.calls import Dispatcher
    from zygo.gateway.container import Backend
    from zygo.gateway.proxy import Gateway
    from zygo.model import FunctionSpec
    from zygo.scheduler.loop import Scheduler
    from zygo.server.addresses import Addresses
    from zygo.server.app_logs import AppLog, AppLogs
    from zygo.server.environments import Environment
    from zygo.server.live import Kind
    from zygo.settings import Settings

log = logging.getLogger("zygo.apps")

CALL_GRACE = 15.0
"""Seconds beyond its timeout after which a called function's container is taken for stuck: it has had 5 s to obey by then."""

END_GRACE = 1.0
"""Seconds that containers have when their ephemeral app ends: `serve` was ended by a person who is waiting."""

FINISH_GRACE = 10.0
"""Seconds that containers have when a program is done: their last words are part of what it prints."""


def function_id(key: str, kind: str, app: str, name: str, environment: str = MAIN) -> str:
    """The id under which a function is called: the same for every revision of an app, and each time it is served."""
    # By name, not by key: an app that is being deployed for the first time has none yet.
    owner = key if kind == "preview" else f"{app}/{kind}"
    if environment != MAIN:
        owner = f"{environment}/{owner}"
    return "fu-" + hashlib.sha256(f"{owner}/{name}".encode()).hexdigest()[:22]


class Apps:
    """Opens and ends apps, and keeps the gateway's routes as they say."""

    def __init__(
        self, settings: Settings, scheduler: Scheduler, gateway: Gateway, addresses: Addresses, logs: AppLogs
    ) -> None:
        self._settings = settings
        self.scheduler = scheduler
        self._gateway = gateway
        self.addresses = addresses
        self._logs = logs
        self._apps: dict[str, LiveApp] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._claims: list[tuple[LiveApp, Generation]] = []
        self.end_code = "stopped"
        self._calls_api: dict[str, Endpoint] = {}
        self.called: dict[str, tuple[LiveApp, LiveFunction]] = {}
        """The functions that are called, by id."""
        self.dispatcher: Dispatcher | None = None
        """Of spawned calls; it is told of functions that come and go."""
        self._cancelling: set[asyncio.Task[int]] = set()
        self.variants = Variants(self)
        self.tokens = Tokens()

    @property
    def all(self) -> list[LiveApp]:
        """Every app, previews included."""
        return list(self._apps.values())

    @property
    def empty(self) -> bool:
        """No app is live."""
        return not self._apps

    @property
    def in_use(self) -> bool:
        """Whether a request of a deployed app waits or is in flight."""
        return any(app.busy for app in self._apps.values() if app.kind != "ephemeral")

    # -- finding, opening, ending -----------------------------------------------------------------------------------

    def by_session(self, identifier: str) -> LiveApp:
        """The app of a session. Raises NotFoundError."""
        app = self._apps.get(identifier)
        if app is None or app.session is None:
            raise NotFoundError(f"There is no session {identifier[:40]!r}; its command has ended or was taken over.")
        return app

    def find(self, name: str, kind: str, environment: Environment) -> LiveApp | None:
        """The ephemeral or deployed app of that name."""
        wanted = (name, kind, environment)
        return next((app for app in self._apps.values() if (app.name, app.kind, app.environment) == wanted), None)

    def get(self, key: str) -> LiveApp | None:
        """The app with that key."""
        return self._apps.get(key)

    def open_log(self, name: str, environment: Environment, *, ephemeral: bool = False) -> AppLog:
        """The log of the app `name`. Whoever opens it closes it."""
        return self._logs.open(name, ephemeral=ephemeral, environment=environment.id)

    async def open(
        self,
        name: str,
        file: str,
        environment: Environment,
        *,
        force: bool = False,
        running: bool = False,
        detached: bool = False,
        remote: bool = False,
    ) -> Session:
        """A new ephemeral app. Raises ConflictError when one of that name is served, unless `force`.

        One that is `running` shares its name with any other; a `detached` one goes on without its client until its
        functions have nothing to do. The session of a `remote` client outlives its connection for a while.
        """
        if not name:
            raise InvalidError("The app has no name.")
        kind_of_session = RemoteSession if remote else Session
        if running:
            session = kind_of_session(name, file, running=True, detached=detached)
            return self._begin(session, "run", environment)
        other = self.find(name, "ephemeral", environment)
        if other is not None and other.session is not None:
            if not force:
                raise ConflictError(
                    f"The app {name!r} is being served already (from {other.session.file}). End that one, serve "
                    f"this under another name with --name, or take over with --force."
                )
            other.session.end(f"another `zygo serve --force` took over the app {name!r}")
            await self.end(other)
        return self._begin(kind_of_session(name, file), "ephemeral", environment)

    def _begin(self, session: Session, kind: Kind, environment: Environment) -> Session:
        opened = self.open_log(session.app, environment, ephemeral=True)
        app = LiveApp(session.id, session.app, kind, opened, environment, session=session)
        self.add(app)
        task = asyncio.get_running_loop().create_task(self._end_with_session(app, session), name=f"app {app.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return session

    def add(self, app: LiveApp) -> None:
        """Register `app` under its key. It is reachable once it was published."""
        self._apps[app.key] = app

    async def end(self, app: LiveApp, grace: float = END_GRACE) -> None:
        """End an app: its names are gone, its containers have `grace` seconds. Nothing happens when it has ended."""
        if self._apps.pop(app.key, None) is None:
            return
        async with app.lock:
            functions, app.functions, app.wake = list(app.functions.values()), {}, None
            self.update_routes()
            gone: Error = NotFoundError(f"The app {app.name!r} has ended.")
            if app.kind == "ephemeral" and self.dispatcher is not None:
                try:
                    await self.dispatcher.cancel_app(app.key, "its app has ended")
                except StoreError as error:
                    log.error("calls of %s could not be cancelled; the next server does it: %s", app.name, error)
            for function in functions:
                function.admission.fail(gone, lasting=True)
                self.addresses.withdraw(function)
            for task in list(app.retiring):
                task.cancel()
            if app.retiring:
                await asyncio.wait(app.retiring)
            await asyncio.gather(*(self._close_generation(generation, grace) for generation in app.generations))
            app.generations.clear()
            app.close_log()
        log.info("app %s (%s) ended", app.name, app.kind)

    async def close(self) -> None:
        """End every app."""
        self.variants.close()
        await self.end_sessions()
        for app in list(self._apps.values()):
            await self.end(app)

    async def end_sessions(self) -> None:
        """End every ephemeral app; returns once they are gone."""
        for app in list(self._apps.values()):
            if app.session is not None:
                app.session.end("the server is stopping", self.end_code)
                await self.end(app)
        if self._ending:
            await asyncio.wait(self._ending)

    async def finish(self, app: LiveApp) -> None:
        """End an app whose program is done; its session ends last, so that all that was printed goes there."""
        await self.end(app, FINISH_GRACE)
        if app.session is not None:
            app.session.end("the program has ended", "done")

    def runs(self, name: str, environment: Environment) -> list[LiveApp]:
        """The programs that run under that name, or id."""
        found = [app for app in self._apps.values() if app.kind == "run" and app.environment is environment]
        return [app for app in found if name in (app.name, app.key)]

    async def _end_with_session(self, app: LiveApp, session: Session) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (session.ended, session.abandoned)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not session.ended.is_set():
            await app.idle(session.ended, self.pending)
            session.end("its functions have nothing left to do")
        try:
            await self.end(app)
        except Exception:
            log.exception("ending the app %s failed", app.name)

    # -- names and routes -------------------------------------------------------------------------------------------

    def function(self, app: LiveApp, spec: FunctionSpec, among: dict[str, LiveFunction] | None = None) -> LiveFunction:
        """The live function for `spec`: the one the app has under that name and label, or a new one that is not reachable
        yet; a method's shares the waiting line of its class, which is `among` the others of the new revision.

        Raises ConflictError when another app has its hostname.
        """
        web = spec.web is not None and spec.variant is None
        label = self.addresses.label(app, spec, app.suffix) if web else None
        owner = (among or {}).get(spec.owner) if spec.owner else None
        if spec.owner and owner is None:
            raise InvalidError(f"The app has no class {spec.owner!r} for the method {spec.name!r}.")
        known = app.functions.get(spec.name)
        if known is not None and known.label == label and (owner is None or known.admission is owner.admission):
            return known
        hostname = self.addresses.hostname(label) if label is not None else ""
        self._check_free(app, spec.name, hostname)
        admission = owner.admission if owner is not None else self._admission(app)
        identifier = function_id(app.key, app.kind, app.name, spec.name, app.environment.id)
        return LiveFunction(identifier, spec.name, label, hostname, admission, spec.owner)

    def _admission(self, app: LiveApp) -> Admission:
        def on_wait() -> None:
            self.scheduler.poke()
            if app.wake is not None:
                app.wake()

        admission = Admission(max_waiting=self._settings.max_waiting, clock=asyncio.get_running_loop(), on_wait=on_wait)
        admission.on_change.append(self.scheduler.poke)
        return admission

    @contextlib.contextmanager
    def claim(self, app: LiveApp, generation: Generation) -> Iterator[None]:
        """Between the last look and `publish` a revision is recorded, which takes time: no other app may get one of the
        hostnames or domains of `generation` meanwhile. Raises ConflictError when one has got it before."""
        self.check_domains(app, generation.specs.values())
        for function in generation.functions.values():
            self._check_free(app, function.name, function.hostname)
        claim = (app, generation)
        self._claims.append(claim)
        try:
            yield
        finally:
            self._claims.remove(claim)

    def check_domains(self, app: LiveApp, specs: Iterable[FunctionSpec]) -> None:
        """Raises InvalidError or ConflictError when `app` may not have the custom domains of `specs`."""
        live = [(other, [f.spec for f in other.functions.values() if f.spec]) for other in self._apps.values()]
        claimed = [(claimer, list(made.specs.values())) for claimer, made in self._claims]
        domains.check(app, specs, [*live, *claimed], self._settings.domain)

    def _check_free(self, app: LiveApp, name: str, hostname: str) -> None:
        if app.kind == "preview" or not hostname:
            return  # where it and an app meet, the app is routed
        owners = [(other, other.functions) for other in self._apps.values()]
        for other, functions in [*owners, *((claimer, made.functions) for claimer, made in self._claims)]:
            for function in functions.values():
                if function.hostname == hostname and other is not app and other.kind != "preview":
                    raise ConflictError(
                        f"The hostname {hostname} of {app.name}.{name} belongs to {other.name}.{function.name} already. "
                        f"Give one of them another label=."
                    )

    def publish(self, app: LiveApp, generation: Generation) -> None:
        """Make exactly the functions of `generation` reachable; those that the app had besides are gone."""
        functions = list(generation.functions.values())
        gone = [f for f in app.functions.values() if f not in functions]
        app.functions = {f.name: f for f in functions}
        for function in functions:
            function.spec = generation.specs[function.name]
        for function in functions:
            function.endpoint = self.endpoint(app, function)
            if app.kind != "run":  # it has its names once
                self.addresses.keep(function)
            if app.kind == "ephemeral" and (names := domains.of(generation.specs[function.name])):
                app.note(f"custom_domains of {function.name} ({', '.join(names)}) take effect with `zygo deploy`.")
        self.update_routes()
        lines = {f.admission for f in functions}
        for function in gone:
            if function.admission not in lines:
                function.admission.fail(
                    NotFoundError(f"The function {function.shown!r} is not part of the app any more.")
                )
            self.addresses.withdraw(function)
            if self.dispatcher is not None and function.id not in self.called:
                reason = f"the function {function.name!r} is not part of the app any more"
                task = asyncio.get_running_loop().create_task(self.dispatcher.cancel_function(function.id, reason))
                self._cancelling.add(task)
                task.add_done_callback(self._cancelling.discard)

    def pending(self, function_id: str) -> int:
        """Spawned inputs of a function that have no result."""
        return self.dispatcher.pending(function_id) if self.dispatcher is not None else 0

    def spawned(self, function_id: str) -> int:
        """Spawned inputs of a function that are not at work."""
        return self.dispatcher.waiting(function_id) if self.dispatcher is not None else 0

    def withdraw(self, app: LiveApp, generation: Generation) -> None:
        """Take back the addresses of functions that were not published after all."""
        for function in generation.functions.values():
            if function not in app.functions.values():
                self.addresses.withdraw(function)

    def update_routes(self) -> None:
        """Swap the gateway's table for what the live apps say now. An app's own name wins over a preview's."""
        hosts: dict[str, Endpoint] = {}
        ports: dict[int, Endpoint] = {}
        wildcards: dict[str, Endpoint] = {}
        called = dict(self._calls_api)
        self.called = {}
        for app in sorted(self._apps.values(), key=lambda each: each.kind != "preview"):
            for function in app.functions.values():
                if function.endpoint is None or function.spec is None:
                    continue
                if not function.hostname:
                    called[function.id] = function.endpoint
                    self.called[function.id] = (app, function)
                    continue
                hosts[function.hostname] = function.endpoint
                if function.port is not None:
                    ports[function.port] = function.endpoint
                if app.kind == "deployed":
                    for domain in domains.of(function.spec):
                        table, name = (wildcards, domain[2:]) if domain.startswith("*.") else (hosts, domain)
                        table[name] = function.endpoint
                    preview = self.addresses.label(app, function.spec, f"v{app.version}")
                    hosts.setdefault(self.addresses.hostname(preview), function.endpoint)
        self._gateway.routes = Routes(MappingProxyType(hosts), MappingProxyType(ports), MappingProxyType(wildcards))
        self._gateway.functions = Routes(MappingProxyType(called))
        if self.dispatcher is not None:
            self.dispatcher.poke()

    def serve_calls(self, endpoint: Endpoint) -> None:
        """Let callers of functions reach the server itself under this endpoint."""
        self._calls_api = {endpoint.function: endpoint}
        self.update_routes()

    def endpoint(self, app: LiveApp, function: LiveFunction) -> Endpoint:
        """How the gateway reaches `function`, whose `spec` is set."""
        spec = function.spec
        assert spec is not None
        name = function.shown
        owner = app.functions[function.owner].spec if function.owner else None

        def on_timeout(backend: Backend) -> None:
            text = f"{name} was stopped: a request took longer than its timeout of {spec.timeout:g} s."
            for pool in pools():
                if backend.in_flight > 1:
                    pool.drain(backend.id)
                else:
                    pool.kill(backend.id, text)

        def pools() -> list[Pool]:
            return [g.pools[function.pool] for g in app.generations if function.pool in g.pools]

        def explain(backend: Backend) -> str | None:
            reasons = (g.traffic[function.pool].explain(backend) for g in app.generations if function.pool in g.traffic)
            return next((reason for reason in reasons if reason), None)

        def log_call(record: RequestRecord) -> None:
            record.method, record.path = "CALL", name
            app.requests.add(record)

        web = spec.web is not None
        parametrised = owner is not None and owner.parameters and function.hostname
        return Endpoint(
            function=name,
            app=app.name,
            url=function.url,
            admission=function.admission,
            # The container keeps a called function's time itself, for each input, and ends code that does not obey.
            timeout=spec.timeout if web else spec.timeout + CALL_GRACE,
            queue_timeout=max(spec.timeout, spec.startup_timeout or 0.0),
            debug=app.debug or not web,
            log=app.requests.add if web else log_call,
            on_timeout=on_timeout,
            explain=explain,
            max_body=self._settings.max_body_bytes,
            method=b"Zygo-Method: %b\r\n" % name.encode() if function.owner else b"",
            foreign=spec.web is not None and spec.web.kind == "web_server",
            select=self.variants.selector(app, function) if parametrised else None,
            tokens=self.tokens if spec.web is not None and spec.web.requires_proxy_auth else None,
        )

    # -- pools ------------------------------------------------------------------------------------------------------

    def make_pool(
        self, app: LiveApp, generation: Generation, function: LiveFunction, spec: FunctionSpec, revision: Revision
    ) -> Pool:
        """A pool for `function` in `generation`, which nothing goes to yet."""
        if spec.variant is None and spec.needs_values:
            # Nobody can ask for it without values: those have pools of their own.
            spec = replace(spec, policy=replace(spec.policy, min_containers=0, buffer_containers=0))
        traffic = FunctionTraffic(function.admission, spec.policy, self.scheduler.poke)
        generation.traffic[spec.name] = traffic
        pool = generation.pools[spec.name] = Pool(
            revision=revision,
            spec=spec,
            traffic=traffic,
            clock=time.monotonic,
            changed=self.scheduler.poke,
            log=lambda container, text: app.on_log(function.shown, container, "system", text),
            grace=self._settings.grace_period,
        )
        traffic.on_used = pool.drain
        return pool

    def open_pool(self, app: LiveApp, generation: Generation, function: LiveFunction, spec: FunctionSpec) -> None:
        """A pool for a variant, in the generation that is active."""
        assert spec.variant is not None
        pool = self.make_pool(app, generation, function, spec, generation.pools[spec.variant.of].revision)
        generation.traffic[spec.name].activate()
        self.scheduler.add(pool, spec.policy)

    def close_pool(self, generation: Generation, name: str) -> None:
        """Forget the pool of a variant; its containers, if it has any, end in the background."""
        pool = generation.pools.pop(name)
        del generation.traffic[name]
        self.scheduler.remove(pool)
        if not pool.empty:
            task = asyncio.get_running_loop().create_task(pool.close(self._settings.grace_period), name=f"close {name}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    # -- generations ------------------------------------------------------------------------------------------------

    def switch(self, app: LiveApp, generation: Generation) -> None:
        """Make `generation` the active one; those before it drain, in the background."""
        old = list(app.generations)
        app.generations.append(generation)
        for other in old:
            for traffic in other.traffic.values():
                traffic.deactivate()
        for name, pool in generation.pools.items():
            generation.traffic[name].activate()
            before = [other.pools[name] for other in old if name in other.pools]
            self.scheduler.add(pool, pool.spec.policy, before)
            if not pool.size and any(each.ready for each in before):
                pool.start_one()  # it was warm: whoever saves is about to look
        for other in old:
            self._retire(app, other)

    async def stand_down(self, app: LiveApp, grace: float, hold: float) -> None:
        """Stop the active generation's containers so that others can start alone: new requests wait (for `hold` seconds at
        most), those in flight have `grace` seconds. Followed by `switch`, or undone by `stand_up`."""
        app.hold(hold)
        pools = [pool for generation in app.generations for pool in generation.pools.values()]
        draining = asyncio.gather(*(self.scheduler.drain(pool) for pool in pools))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(draining, grace)
        for pool in pools:
            self.scheduler.remove(pool)
        await asyncio.gather(*(pool.close(0.0) for pool in pools))

    def stand_up(self, app: LiveApp) -> None:
        """Let the active generation start containers again, after `stand_down`."""
        for generation in app.generations[-1:]:
            for pool in generation.pools.values():
                self.scheduler.add(pool, pool.spec.policy)
        app.release()

    async def put_to_sleep(self, app: LiveApp) -> None:
        """Retire all that runs of an app, which keeps its names."""
        generations, app.generations = list(app.generations), []
        for task in list(app.retiring):
            await asyncio.wait({task})
        await asyncio.gather(*(self._close_generation(generation, END_GRACE) for generation in generations))

    def _retire(self, app: LiveApp, generation: Generation) -> None:
        async def finish() -> None:
            await asyncio.gather(*(self.scheduler.drain(pool) for pool in generation.pools.values()))
            await asyncio.gather(*(revision.retire() for revision in generation.revisions))
            generation.discard()
            app.generations.remove(generation)

        if any(task.get_name() == f"retire {id(generation)}" for task in app.retiring):
            return
        task = asyncio.get_running_loop().create_task(finish(), name=f"retire {id(generation)}")
        app.retiring.add(task)
        task.add_done_callback(app.retiring.discard)

    async def _close_generation(self, generation: Generation, grace: float) -> None:
        for pool in generation.pools.values():
            self.scheduler.remove(pool)
        own = self._settings.grace_period
        await asyncio.gather(
            *(pool.close(max(grace, own) if pool.spec.lasting_exit else grace) for pool in generation.pools.values())
        )
        await asyncio.gather(*(revision.retire() for revision in generation.revisions))
        generation.discard()

    def describe(self) -> list[dict[str, Any]]:
        """For `zygo server status` and `zygo app list`: ephemeral and deployed apps."""
        return [
            {
                "id": app.key,
                "name": app.name,
                "environment": app.environment.name,
                "state": app.state,
                "file": app.session.file if app.session else "",
                "version": app.version,
                "functions": [
                    {
                        "name": f.name,
                        "url": f.url,
                        "containers": sum(g.pools[f.pool].ready for g in app.generations if f.pool in g.pools),
                        "waiting": f.admission.waiting,
                        "pending": self.spawned(f.id),
                        "in_flight": f.admission.in_flight,
                    }
                    for f in app.functions.values()
                ],
            }
            for app in self._apps.values()
            if app.kind != "preview"
        ]
