"""An ephemeral app around a program: from `with app.run()` or `zygo run` until the program is done.

    start:   server found or started  +  files listed  ->  session (the app's life)  ->  published: the functions of this
             process's App are bound to the session's id, not to a name that another app may have, too
    finish:  the server ends the containers, all they printed comes by the session, then the session ends

It lives on the event loop of the blocking calls, in a thread of its own, so that the program's own thread runs the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zygo import errors, loader, model
from zygo.program import deploying, progress, sending
from zygo.program.connecting import connect
from zygo.program.screen import for_program
from zygo.program.sources import Digests, collect
from zygo.sdk import variants

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from zygo.loader import Evaluated, Loaded
    from zygo.program.screen import Screen
    from zygo.sdk.app import App
    from zygo.sdk.client import Client, Session

DRAIN_SECONDS = 30.0
"""For containers to end, which have ten, and what they printed to come. It normally takes some 50 ms."""

LINGER_SECONDS = 0.2
"""How long a detached program still listens: what was printed just before is on its way."""


@dataclass(frozen=True)
class Plan:
    """How to run. `name`: of the app, instead of its own; `environment`: None for the one that this process means."""

    name: str | None = None
    detached: bool = False
    verbose: bool = False
    environment: str | None = None


class Run:
    """One run of `loaded`'s app. `start` and `finish` are awaited on one loop, once each.

    Arguments:
        connecting: gives the client, when somebody has begun to connect already.
    """

    def __init__(
        self, loaded: Loaded, screen: Screen, plan: Plan | None = None, connecting: Awaitable[Client] | None = None
    ) -> None:
        self.app = loaded.app
        self.ended = ""
        """Why the server ended the app before the program did; "" while it has not."""
        self._plan = plan or Plan()
        self._evaluated = _named(loaded.evaluated, self._plan.name)
        self._file = loaded.target.path
        self._screen = screen
        self._connecting = connecting
        self._published = asyncio.Event()
        self._finish = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The app's name."""
        return self._evaluated.app.name

    async def start(self) -> None:
        """Bring up the app; returns when its functions can be called. Raises what makes that impossible."""
        self._task = asyncio.create_task(self._live(), name=f"run {self.name}")
        published = asyncio.create_task(self._published.wait(), name="published")
        try:
            await asyncio.wait({self._task, published}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            published.cancel()
        if self._task.done():
            self._task.result()

    async def finish(self) -> None:
        """End the app, or leave it when it is detached; returns once all that was printed is shown. May be called twice."""
        self._finish.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            _bind(self.app, None, {})
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                raise error

    async def _live(self) -> None:
        connecting = asyncio.ensure_future(self._connecting or connect(self._screen))
        try:
            upload = await asyncio.to_thread(collect, self._evaluated, Digests())
            client = await connecting
        finally:
            connecting.cancel()
        if self._plan.environment is not None:
            client.environment = self._plan.environment
        opened = client.session(app=self.name, file=self._file, running=True, detached=self._plan.detached)
        async with client, opened as session:
            events = asyncio.create_task(self._events(session), name="events")
            finish = asyncio.create_task(self._finish.wait(), name="finish")
            try:
                await self._publish(client, session, upload)
                await asyncio.wait({events, finish}, return_when=asyncio.FIRST_COMPLETED)
                if not events.done():
                    await self._drain(client, session, events)
            finally:
                for task in (events, finish):
                    task.cancel()
                await asyncio.gather(events, finish, return_exceptions=True)

    async def _publish(self, client: Client, session: Session, upload: Any) -> None:
        began = time.monotonic()
        for text in upload.app.warnings:
            self._screen.warning(text)
        encoded = model.encode(upload.app)
        result = await sending.publish(
            client,
            upload,
            set(),
            lambda: progress.follow_all(self._screen, client.publish(session.id, encoded), verbose=self._plan.verbose),
        )
        if result["type"] != "published":
            raise sending.failure(result)
        functions = result.get("functions", [])
        _bind(self.app, session.id, {str(f["name"]): str(f["url"]) for f in functions if f["url"]})
        self._screen.success(
            f"Created {self.name} in {time.monotonic() - began:.2f} s{progress.where(result) if self._plan.verbose else ''}."
        )
        for function in functions:
            if function["url"]:
                progress.show_function(self._screen, function)
        self._published.set()

    async def _drain(self, client: Client, session: Session, events: asyncio.Task[None]) -> None:
        if self._plan.detached:
            await asyncio.wait({events}, timeout=LINGER_SECONDS)
            return
        finishing = asyncio.create_task(client.finish(session.id), name="finishing")
        try:
            # The session's last event says that all is gone; the request's own answer comes right before it.
            await asyncio.wait({events}, timeout=DRAIN_SECONDS)
        finally:
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)

    async def _events(self, session: Session) -> None:
        try:
            async for event in session.events():
                kind = event.get("type")
                if kind == "log":
                    self._screen.log(event)
                elif kind == "warning":
                    self._screen.warning(str(event.get("text", "")))
                elif kind == "ended":
                    if event.get("code") != "done":
                        self._lost(str(event.get("reason") or "the server says no reason"))
                    return
            self._lost("the server went away")
        except (errors.ConnectionError, errors.TimeoutError) as error:
            self._lost(str(error))

    def _lost(self, reason: str) -> None:
        self.ended = reason
        if not self._finish.is_set():
            self._screen.warning(f"The app {self.name} was ended: {reason}.")


def _named(evaluated: Evaluated, name: str | None) -> Evaluated:
    return replace(evaluated, app=replace(evaluated.app, name=name)) if name else evaluated


def _bind(app: App, address: str | None, urls: dict[str, str]) -> None:
    """Let the functions of `app` in this process be called: at the app with this name or id; None: not any more."""
    app.running_as = address
    for function in app.registered_functions.values():
        function.serve_in(address, urls.get(function.name))
    for cls in app.registered_classes.values():
        cls.service.serve_in(address)
        cls.service.urls = urls


def of_program(app: App, plan: Plan) -> Run:
    """The run of an App that this process has defined. Raises InvalidError when containers could not import it."""
    loaded = loader.describe(app)
    # What containers send back is of the module's classes under its name there: the same as here.
    module = sys.modules[app.home]
    sys.modules.setdefault(loaded.target.name, module)
    return Run(loaded, for_program(), plan)


async def deploy(app: App, name: str | None, tag: str, strategy: str, environment: str | None = None) -> None:
    """Deploy the file of an App that this process has defined; its functions here are those of the deployed app then.

    Raises what makes it fail, after nothing was changed.
    """
    screen = for_program()
    call = f"{loader.describe(app).evaluated.app.app_variable}.deploy(name={{name}})"
    wanted = deploying.Deploy(loader.reference(app), call, name, tag, strategy, shell=False, environment=environment)
    upload, result = await deploying.deploy(wanted, screen)
    if result["type"] == "failed":
        raise deploying.failed(result)
    functions = result.get("functions", [])
    _bind(
        app,
        variants.address(upload.app.name, environment),
        {str(f["name"]): str(f["url"]) for f in functions if f["url"]},
    )
    app.running_as = None
    screen.success(f"Deployed {upload.app.name} v{result['version']}.")
    with contextlib.suppress(KeyError):
        for function in functions:
            progress.show_function(screen, function)
