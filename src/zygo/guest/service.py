"""A class in a container: one instance, what it does at the start and the end, and its methods behind one socket.

The gateway says with a header which method a request is for; a class with one method needs no telling.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import sys
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, Callable, Union

from zygo.guest import calls, runner, tracebacks, web
from zygo.guest import tunnel as tunnels
from zygo.guest.entry import Entry, entry_of, over
from zygo.sdk import cls as classes
from zygo.sdk import lifecycle, payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.sdk.cls import Cls
    from zygo.sdk.partial import Partial

Run = Callable[[Any], Any]
"""Runs a coroutine on the loop that serves."""

Single = Union[web.App, calls.App, tunnels.WebServer]
"""The application of one function or method."""

METHOD = b"zygo-method"
"""The gateway's header. It comes first, so what a client sends under this name is never read."""


def application(entry: Entry, debug: bool, place: runner.Place | None = None) -> Single:
    """The application of one function or method."""
    if entry.web is None:
        return calls.App(entry, place)
    return tunnels.WebServer(entry, debug) if entry.web.kind == "web_server" else web.App(entry, debug)


class Service:
    """The application of a class, with the steps of `web.App`.

    The instance exists in the revision zygote already, as an empty object: methods can be bound to it, and handlers built,
    before anything of the user's runs. Its parameters and __init__ come in the container, or before `snap`.
    """

    def __init__(self, cls: Cls, debug: bool, variant: dict[str, Any]) -> None:
        self.cls = cls
        self.debug = debug
        self.notes: list[str] = []
        self.config: Any = None
        self.instance = classes.blank(cls)
        self._over = over(variant)
        self._snapped = False
        self._built: dict[bytes, Any] = {}
        place = runner.Place()
        self.entries = {
            function.name: application(
                entry_of(function, variant, MethodType(function.raw, self.instance)), debug, place
            )
            for function in cls.functions()
        }

    def fits(self, variant: dict[str, Any]) -> bool:
        """Whether it can serve that variant as it is."""
        return over(variant) == self._over

    @property
    def asgi(self) -> Any:
        """The application, when all of it is ours and was made by `prebuild`."""
        return self.serve if self.entries and not self.lifespan and self._all_ours else None

    @property
    def _all_ours(self) -> bool:
        return all(entry.asgi is not None for entry in self.entries.values())

    @property
    def lifespan(self) -> bool:
        """Whether one of its applications may have a startup and a shutdown."""
        return any(entry.lifespan for entry in self.entries.values())

    @property
    def tunnel(self) -> tunnels.Tunnel | None:
        """What leads to its server, if that is what it is."""
        return next((entry.tunnel for entry in self.entries.values() if entry.tunnel is not None), None)

    @property
    def beside(self) -> runner.Place | None:
        """What has the main thread while the event loop is in another."""
        return next((entry.beside for entry in self.entries.values() if entry.beside is not None), None)

    def prebuild(self) -> bool:
        """See web.App.prebuild."""
        for entry in self.entries.values():
            entry.prebuild()
            self.notes += entry.notes
        return True

    @contextmanager
    def warm_route(self, answer: Any = None) -> Iterator[bytes | None]:
        """See web.App.warm_route: that of its first method, which a request without the header is for."""
        with next(iter(self.entries.values())).warm_route(answer) as line:
            self._built = {b"": next(iter(self.entries.values())).asgi}
            yield line

    # -- the instance's life ------------------------------------------------------------------------------------------

    def snap(self) -> None:
        """In the revision zygote: make the instance and run its `enter(snap=True)` methods, unless it has parameters, whose
        values only containers know. Raises what they raise."""
        definition = self.cls.definition
        if not definition.snaps or definition.parameters or classes.needs_values(definition, self.cls.raw):
            return
        self._snapped = True
        classes.initialise(self.cls, self.instance, None, (), {})
        for hook in definition.snaps:
            made = hook.raw(self.instance)
            if inspect.isawaitable(made):
                asyncio.run(_wait_for(made))
        # asyncio.run leaves none behind, and what forks from here makes its own.
        asyncio.set_event_loop(None)

    def enter(self, run: Run, variant: dict[str, Any]) -> None:
        """In the container: the instance with its parameters, then its enter methods. Raises what they raise."""
        definition = self.cls.definition
        values = dict(variant.get("parameters") or {})
        if not self._snapped or values or variant.get("init"):
            args, kwargs = self._arguments(variant)
            obj = classes.Obj(self.cls, {"parameters": values} if values else None, (), {})
            classes.initialise(self.cls, self.instance, obj, args, kwargs)
            self._run(definition.snaps, run)
        self._run(definition.enters, run)

    def _arguments(self, variant: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if variant.get("init"):
            args, kwargs = payload.loads(base64.b64decode(variant["init"]), f"The arguments of {self.cls.name}", "")
            return args, kwargs
        types = {spec.name: spec.type for spec in self.cls.definition.parameters}
        given = variant.get("parameters") or {}
        return (), {n: lifecycle.decode_value(types[n], value) for n, value in given.items() if n in types}

    def exit(self, run: Run) -> None:
        """At the end: its exit methods, each whatever became of the others."""
        for hook in self.cls.definition.exits:
            try:
                self._run((hook,), run)
            except BaseException as error:
                print(tracebacks.describe(error, sys.path[0])[0], end="", file=sys.stderr, flush=True)
        for entry in self.entries.values():
            entry.exit(run)

    def _run(self, hooks: tuple[Partial, ...], run: Run) -> None:
        for hook in hooks:
            made = hook.raw(self.instance)
            if inspect.isawaitable(made):
                run(_wait_for(made))

    # -- serving ------------------------------------------------------------------------------------------------------

    def build(self) -> Callable[..., Any]:
        """The application, its factories called."""
        self._built = {name.encode(): entry.build() for name, entry in self.entries.items()}
        self._built[b""] = next(iter(self._built.values()))
        return self.serve

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, by the method that it is for."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        headers = scope["headers"]
        name = next((value for key, value in headers if key == METHOD), b"")
        scope["headers"] = [header for header in headers if header[0] != METHOD]
        await self._built[name](scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        apps = [self._built[name.encode()] for name, entry in self.entries.items() if entry.lifespan]
        if len(apps) == 1:
            await apps[0](scope, receive, send)
            return
        await receive()
        lives = [_Life(app, scope) for app in apps]
        for life in lives:
            if failed := await life.tell("startup"):
                await send({"type": "lifespan.startup.failed", "message": failed})
                return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for life in reversed(lives):
            await life.tell("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


class _Life:
    """The lifespan of one application of several."""

    def __init__(self, app: Any, scope: Any) -> None:
        self._in: asyncio.Queue[Any] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(app(scope, self._in.get, self._out.put))

    async def tell(self, phase: str) -> str:
        """Have it do its startup or shutdown; why it failed, "" when it did not. One without a lifespan has none."""
        if self._task.done():
            return ""
        self._in.put_nowait({"type": f"lifespan.{phase}"})
        answer = asyncio.ensure_future(self._out.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            return ""
        message = answer.result()
        return str(message.get("message") or "failed") if message["type"] == f"lifespan.{phase}.failed" else ""


async def _wait_for(made: Any) -> Any:
    return await made


Served = Union[web.App, calls.App, tunnels.WebServer, Service]
"""What a container serves."""
