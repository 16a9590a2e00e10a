"""A web function as an ASGI application."""

from __future__ import annotations

import asyncio
import inspect
import sys
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import InvalidError
from zygo.guest.entry import over
from zygo.guest.leaving import uninterrupted
from zygo.sdk import plain
from zygo.sdk.app import App as SdkApp
from zygo.sdk.app import registered_apps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from zygo.guest.entry import Entry
    from zygo.guest.runner import Place
    from zygo.sdk.cls import Cls
    from zygo.sdk.function import Function

Asgi = Callable[..., Any]

_WARM_PATH = "/__zygo_warm__"
_REHEARSAL_REQUESTS = 10
"""CPython 3.11 specialises a function's code when it has run eight times."""

_WARM_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "PROPFIND",
    "path": _WARM_PATH,
    "raw_path": _WARM_PATH.encode(),
    "root_path": "",
    "scheme": "http",
    "query_string": b"x=1",
    "headers": [],
    "client": ("127.0.0.1", 0),
    "server": ("127.0.0.1", 80),
}


def find(module: ModuleType, app_variable: str, name: str) -> Function | Cls:
    """The function or class `name` of the module's app. Raises InvalidError when this module does not define it."""
    app = getattr(module, app_variable, None) if app_variable else plain_app(module)
    candidates = [app] if isinstance(app, SdkApp) else registered_apps()
    for candidate in candidates:
        found = candidate.registered_functions.get(name) or candidate.registered_classes.get(name)
        if found is not None:
            return found
    raise InvalidError(
        f"{name!r} is there when {module.__name__} is loaded on the developer's machine, but not in the container. "
        f"Define functions and classes unconditionally, not under `if zygo.is_local():`."
    )


def plain_app(module: ModuleType) -> SdkApp | None:
    """The app of a program without zygo: its one function serves the application that the module defines."""
    found = plain.find(module)
    return plain.make_app(module, found) if found is not None else None


class App:
    """The ASGI application of one web function, made in two steps.

    `prebuild` runs in the revision zygote and does what is ours and safe to share by fork: wrapping a handler in
    FastAPI and warming its routes (then `asgi` is there, and `config` if the caller adds uvicorn's). `build` runs in
    the container: a user's factory may open connections and threads.
    """

    beside: Place | None = None

    def __init__(self, function: Entry, debug: bool) -> None:
        self.function = function
        self.debug = debug
        self.notes: list[str] = []
        self.asgi: Asgi | None = None
        self.config: Any = None

    def prebuild(self) -> bool:
        """Make what is ours. False without a web function. Raises what FastAPI raises on a signature it cannot serve."""
        web = self.function.web
        if web is None:
            return False
        if web.kind == "fastapi_endpoint":
            self.asgi = self._fastapi()
            self.warm(self.asgi, 1)
        _look_up_source(self.function.raw)
        return True

    def build(self) -> Asgi:
        """The application. Raises what the user's factory raises, InvalidError when it returned something else."""
        if self.asgi is not None:
            return self.asgi
        made = self.function.raw()
        web = self.function.web
        assert web is not None
        wsgi = web.kind == "wsgi_app"
        if not callable(made):
            kind, example = ("a WSGI", "Flask(__name__)") if wsgi else ("an ASGI", "FastAPI()")
            raise InvalidError(
                f"The {web.kind} factory {self.function.name!r} returned {type(made).__name__}, which is not {kind} "
                f"application. Return the application object, for example `return {example}`."
            )
        application: Asgi = _bridge(made, self.function) if wsgi else made
        return application

    @property
    def lifespan(self) -> bool:
        """Whether the application may have a startup and a shutdown."""
        return self.asgi is None and self.function.web is not None and self.function.web.kind == "asgi_app"

    tunnel = None

    def fits(self, variant: dict[str, Any]) -> bool:
        """Whether it can serve that variant as it is."""
        return not over(variant)

    def enter(self, run: Any, variant: dict[str, Any]) -> None:
        """Nothing: its factory is called by `build`."""

    def exit(self, run: Any) -> None:
        """Nothing: a lifespan has its own shutdown."""

    def _fastapi(self) -> Asgi:
        from fastapi import FastAPI
        from fastapi.middleware.cors import CORSMiddleware

        web = self.function.web
        assert web is not None
        self._note_fallback()
        app = FastAPI(title=self.function.name, openapi_url="/openapi.json" if web.docs else None, debug=False)
        app.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
        )
        app.add_api_route(web.path, self.function.raw, methods=[web.method.upper()], name=self.function.name)
        if self.debug:
            app.add_exception_handler(Exception, _show_traceback)
        return app

    def _note_fallback(self) -> None:
        import fastapi

        if "/runtime/" in (fastapi.__file__ or ""):
            self.notes.append(
                f"The image has no FastAPI; zygo's own {fastapi.__version__} is used. "
                f'Pin it with .pip_install("fastapi[standard]=={fastapi.__version__}").'
            )

    def warm(self, asgi: Asgi, count: int) -> None:
        """Answer `count` requests to a route of ours: what a first one builds (the middleware stack, caches) is then
        shared by every container instead of being built, in pages of its own, in each."""

        async def requests() -> None:
            with self.warm_route(_answer_async):
                for _ in range(count):
                    await asgi(dict(_WARM_SCOPE, state={}), _receive_nothing, _send_nowhere)

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(requests())
        finally:
            loop.close()

    @contextmanager
    def warm_route(self, answer: Callable[..., Any] | None = None) -> Iterator[bytes | None]:
        """A request line for the time of the block, and a route of ours that answers it as the user's would be
        answered: parameters, thread, encoding (or by `answer`). None for an application that is not ours."""
        if self.asgi is None:
            yield None
            return
        made: Any = self.asgi
        routes = made.router.routes
        made.add_api_route(
            _WARM_PATH,
            answer or (_answer_async if asyncio.iscoroutinefunction(self.function.raw) else _answer),
            methods=["PROPFIND"],
            include_in_schema=False,
        )
        try:
            yield f"PROPFIND {_WARM_PATH}?x=1 HTTP/1.1".encode()
        finally:
            routes.pop()


def _bridge(application: Any, function: Entry) -> Asgi:
    """A WSGI application as an ASGI one, with a thread for each request that the container gets at once."""
    try:
        from a2wsgi import WSGIMiddleware  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # pragma: no cover - the runtime layer always has it
        raise InvalidError("a2wsgi, which serves WSGI applications, is not in this container.") from None
    bridge: Asgi = WSGIMiddleware(application, workers=function.max_inputs)

    async def bridged(scope: Any, receive: Any, send: Any) -> None:
        uninterrupted(receive)  # the thread would go on, and the container be taken for idle
        await bridge(scope, receive, send)

    return bridged


def _answer(x: int = 0) -> dict[str, int]:
    return {"x": x}


async def _answer_async(x: int = 0) -> dict[str, int]:
    return {"x": x}


async def _show_traceback(request: Any, error: Exception) -> Any:
    """Under `serve` the developer is the caller: the traceback is the most useful answer."""
    from fastapi.responses import PlainTextResponse

    from zygo.guest import tracebacks

    text, _, _ = tracebacks.describe(error, sys.path[0])
    return PlainTextResponse(f"Internal Server Error\n\n{text}", status_code=500)


def rehearse() -> None:
    """An endpoint of ours, from its decorators to its answers, in a fork server that holds no user code yet.

    What is imported, compiled, cached and specialised on the way is there for every revision and container.
    """
    import zygo
    from zygo.model import WebSpec

    for name in zygo.__all__:
        getattr(zygo, name)
    stand_in: Any = SimpleNamespace(name="rehearsal", raw=_answer_async, web=WebSpec("fastapi_endpoint", docs=True))
    app = App(stand_in, debug=True)
    if app.prebuild() and app.asgi is not None:
        app.warm(app.asgi, _REHEARSAL_REQUESTS)


async def _receive_nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send_nowhere(message: dict[str, Any]) -> None:
    pass


def _look_up_source(function: Any) -> None:
    """Read where a handler is defined, as FastAPI does at its first request: that compiles the tokenizer's patterns
    (15 ms), which every container would do anew."""
    with suppress(Exception):
        inspect.getsourcelines(function)
        from fastapi import routing

        # FastAPI's own note of it, where this version keeps one.
        routing._extract_endpoint_context(function)
