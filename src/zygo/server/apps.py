"""The live apps: their functions, hostnames, ports and waiting lines, and the gateway's table that follows from them."""

from __future__ import annotations

import asyncio
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zygo.errors import ConflictError, Error, ExecutionError, InvalidError, NotFoundError
from zygo.gateway.admission import Admission
from zygo.gateway.routes import Endpoint, Routes
from zygo.sdk import labels
from zygo.server.logs import AppLog
from zygo.server.requests import RequestLog
from zygo.server.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.base import Revision
    from zygo.gateway.container import Backend
    from zygo.gateway.proxy import Gateway
    from zygo.model import FunctionSpec
    from zygo.scheduler.loop import Scheduler
    from zygo.scheduler.pool import Pool
    from zygo.server.ports import PortBook
    from zygo.server.traffic import FunctionTraffic
    from zygo.settings import Settings

log = logging.getLogger("zygo.apps")

HOLD_SECONDS = 0.5
"""How long requests wait for code that was just saved, before the old code answers them after all."""

END_GRACE = 1.0
"""Seconds that containers have when their ephemeral app ends: `serve` was ended by a person who is waiting."""


class Generation:
    """What one publish made: revisions, and a pool for each function. The last one is active, the others drain."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.functions: dict[str, LiveFunction] = {}
        self.specs: dict[str, FunctionSpec] = {}
        self.pools: dict[str, Pool] = {}
        self.traffic: dict[str, FunctionTraffic] = {}
        self.discard: Callable[[], None] = lambda: None


class LiveFunction:
    """One web function for as long as its app has it: its names and its waiting line outlive every revision."""

    def __init__(self, name: str, label: labels.Label, hostname: str, admission: Admission) -> None:
        self.name = name
        self.label = label
        self.hostname = hostname
        self.admission = admission
        self.port: int | None = None
        self.url = ""
        self.hostname_url = ""
        self.spec: FunctionSpec | None = None
        self.endpoint: Endpoint | None = None


class LiveApp:
    """One ephemeral app: a session, its functions, and the revisions that serve them."""

    def __init__(self, session: Session, log_file: AppLog) -> None:
        self.session = session
        self.name = session.app
        self.functions: dict[str, LiveFunction] = {}
        self.generations: list[Generation] = []
        self.lock = asyncio.Lock()
        self.said: set[str] = set()
        self.retiring: set[asyncio.Task[None]] = set()
        self._log_file = log_file
        self.requests = RequestLog(session, log_file, lambda function, text: self.on_log(function, "", "system", text))

    def hold(self) -> None:
        """A change was seen: requests wait for the new code, for HOLD_SECONDS at most."""
        for function in self.functions.values():
            function.admission.hold(HOLD_SECONDS)

    def release(self) -> None:
        """The change came to nothing: the old code goes on."""
        for function in self.functions.values():
            function.admission.unhold()

    def note(self, text: str) -> None:
        """Say something of zygo's own, once in the app's life."""
        if text not in self.said:
            self.said.add(text)
            self.on_log("", "", "system", text)

    def on_log(self, function: str, container: str, stream: str, text: str) -> None:
        """One line of output, to the terminal and to the file."""
        self._log_file.write(function, stream, text)
        self.session.log(function, container, stream, text)

    def close_log(self) -> None:
        """Close the log file."""
        self.requests.close()
        self._log_file.close()


class Apps:
    """Opens and ends apps, and keeps the gateway's routes as they say."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        gateway: Gateway,
        book: PortBook,
        gateway_port: int,
        names_resolve: bool,
    ) -> None:
        self._settings = settings
        self.scheduler = scheduler
        self._gateway = gateway
        self._book = book
        self._gateway_port = gateway_port
        self._names_resolve = names_resolve
        self._apps: dict[str, LiveApp] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.end_code = "stopped"

    @property
    def empty(self) -> bool:
        """No app is live."""
        return not self._apps

    async def open(self, name: str, file: str, *, force: bool) -> Session:
        """A new ephemeral app. Raises ConflictError when one of that name is served, unless `force`."""
        if not name:
            raise InvalidError("The app has no name.")
        other = next((app for app in self._apps.values() if app.name == name), None)
        if other is not None:
            if not force:
                raise ConflictError(
                    f"The app {name!r} is being served already (from {other.session.file}). End that one, serve "
                    f"this under another name with --name, or take over with --force."
                )
            other.session.end(f"another `zygo serve --force` took over the app {name!r}")
            await self._end(other)
        session = Session(name, file)
        directory = self._settings.data_dir / "logs" / "apps"
        app = LiveApp(session, AppLog(directory, labels.normalise(name), self._settings.log_bytes))
        self._apps[session.id] = app
        task = asyncio.get_running_loop().create_task(self._end_with_session(app), name=f"app {name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return session

    def by_session(self, identifier: str) -> LiveApp:
        """The app of a session. Raises NotFoundError."""
        app = self._apps.get(identifier)
        if app is None:
            raise NotFoundError(f"There is no session {identifier[:40]!r}; its command has ended or was taken over.")
        return app

    def function(self, app: LiveApp, spec: FunctionSpec) -> LiveFunction:
        """The live function for `spec`: the one the app has under that name and label, or a new one that is not reachable
        yet. Raises ConflictError when another app has its hostname."""
        assert spec.web is not None
        settings = self._settings
        label = labels.label(app.name, spec.name, custom=spec.web.label, dev_suffix="dev", workspace=settings.workspace)
        known = app.functions.get(spec.name)
        if known is not None and known.label == label:
            return known
        hostname = f"{label.text}.{settings.domain}"
        for other in self._apps.values():
            for function in other.functions.values():
                if function.hostname == hostname and function is not known and other is not app:
                    raise ConflictError(
                        f"The hostname {hostname} of {app.name}.{spec.name} belongs to {other.name}.{function.name} already. "
                        f"Give one of them another label=."
                    )
        admission = Admission(
            max_waiting=settings.max_waiting, clock=asyncio.get_running_loop(), on_wait=self.scheduler.poke
        )
        admission.on_change.append(self.scheduler.poke)
        return LiveFunction(spec.name, label, hostname, admission)

    async def publish(self, app: LiveApp, generation: Generation) -> None:
        """Make exactly the functions of `generation` reachable; those that the app had besides are gone."""
        functions = list(generation.functions.values())
        for function in functions:
            function.spec = generation.specs[function.name]
            function.endpoint = self._endpoint(app, function)
        gone = [f for f in app.functions.values() if f not in functions]
        app.functions = {f.name: f for f in functions}
        self.update_routes()
        for function in gone:
            function.admission.fail(NotFoundError(f"The function {function.name!r} is not part of the app any more."))
            if function.port is not None:
                self._gateway.remove_listener(function.port)

    async def give_address(self, function: LiveFunction) -> None:
        """Give it its port and URL; requests meet 404 until `publish`. Undone by `withdraw`. Raises ExecutionError."""
        settings = self._settings
        function.hostname_url = f"http://{function.hostname}:{self._gateway_port}"
        if settings.domain != "localhost":
            function.url = function.hostname_url
            return
        if function.port is None:
            function.port = await self._own_port(function.hostname)
        function.url = function.hostname_url if self._names_resolve else f"http://127.0.0.1:{function.port}"

    def withdraw(self, app: LiveApp, generation: Generation) -> None:
        """Take back the addresses of functions that were not published after all."""
        for function in generation.functions.values():
            if function not in app.functions.values() and function.port is not None:
                self._gateway.remove_listener(function.port)
                function.port = None

    async def _own_port(self, hostname: str) -> int:
        for port in self._book.candidates(hostname):
            try:
                await self._gateway.add_listener(port)
            except OSError:
                continue
            self._book.remember(hostname, port)
            return port
        raise ExecutionError(f"None of the ports tried for {hostname} is free on 127.0.0.1.")

    def _endpoint(self, app: LiveApp, function: LiveFunction) -> Endpoint:
        spec = function.spec
        assert spec is not None

        def on_timeout(backend: Backend) -> None:
            text = f"{function.name} was stopped: a request took longer than its timeout of {spec.timeout:g} s."
            for pool in pools():
                if backend.in_flight > 1:
                    pool.drain(backend.id)
                else:
                    pool.kill(backend.id, text)

        def pools() -> list[Pool]:
            return [g.pools[function.name] for g in app.generations if function.name in g.pools]

        def explain(backend: Backend) -> str | None:
            reasons = (g.traffic[function.name].explain(backend) for g in app.generations if function.name in g.traffic)
            return next((reason for reason in reasons if reason), None)

        return Endpoint(
            function=function.name,
            app=app.name,
            url=function.url,
            admission=function.admission,
            timeout=spec.timeout,
            queue_timeout=max(spec.timeout, spec.startup_timeout or 0.0),
            debug=True,
            log=app.requests.add,
            on_timeout=on_timeout,
            explain=explain,
            max_body=self._settings.max_body_bytes,
        )

    def update_routes(self) -> None:
        """Swap the gateway's table for what the live apps say now."""
        live = [f for app in self._apps.values() for f in app.functions.values() if f.endpoint is not None]
        hosts = {f.hostname: f.endpoint for f in live if f.endpoint is not None}
        ports = {f.port: f.endpoint for f in live if f.port is not None and f.endpoint is not None}
        self._gateway.routes = Routes(MappingProxyType(hosts), MappingProxyType(ports))

    def switch(self, app: LiveApp, generation: Generation) -> None:
        """Make `generation` the active one; those before it drain, in the background."""
        old = list(app.generations)
        app.generations.append(generation)
        for other in old:
            for traffic in other.traffic.values():
                traffic.deactivate()
        for name, pool in generation.pools.items():
            generation.traffic[name].activate()
            self.scheduler.add(pool, pool.spec.policy)
            if any(name in other.pools and other.pools[name].ready for other in old):
                pool.start_one()  # it was warm: whoever saves is about to look
        for other in old:
            self._retire(app, other)

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

    async def _close_generation(self, generation: Generation) -> None:
        for pool in generation.pools.values():
            self.scheduler.remove(pool)
        await asyncio.gather(*(pool.close(END_GRACE) for pool in generation.pools.values()))
        await asyncio.gather(*(revision.retire() for revision in generation.revisions))
        generation.discard()

    async def close(self) -> None:
        """End every app."""
        for app in list(self._apps.values()):
            app.session.end("the server is stopping", self.end_code)
            await self._end(app)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _end_with_session(self, app: LiveApp) -> None:
        await app.session.ended.wait()
        try:
            await self._end(app)
        except Exception:
            log.exception("ending the app %s failed", app.name)

    async def _end(self, app: LiveApp) -> None:
        if self._apps.pop(app.session.id, None) is None:
            return
        async with app.lock:
            functions, app.functions = list(app.functions.values()), {}
            self.update_routes()
            gone: Error = NotFoundError(f"The app {app.name!r} has ended.")
            for function in functions:
                function.admission.fail(gone, lasting=True)
                if function.port is not None:
                    self._gateway.remove_listener(function.port)
            for task in list(app.retiring):
                task.cancel()
            if app.retiring:
                await asyncio.wait(app.retiring)
            await asyncio.gather(*(self._close_generation(generation) for generation in app.generations))
            app.generations.clear()
            app.close_log()
        log.info("app %s ended", app.name)

    def describe(self) -> list[dict[str, Any]]:
        """For `zygo server status`."""
        return [
            {
                "name": app.name,
                "state": "serving",
                "file": app.session.file,
                "functions": [
                    {
                        "name": f.name,
                        "url": f.url,
                        "containers": sum(g.pools[f.name].ready for g in app.generations if f.name in g.pools),
                        "waiting": f.admission.waiting,
                        "in_flight": f.admission.in_flight,
                    }
                    for f in app.functions.values()
                ],
            }
            for app in self._apps.values()
        ]
