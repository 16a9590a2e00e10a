"""A web function as an ASGI application."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import InvalidError
from zygo.sdk.app import App as SdkApp
from zygo.sdk.app import registered_apps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from zygo.sdk.function import Function

Asgi = Callable[..., Any]


def find_function(module: ModuleType, app_variable: str, name: str) -> Function:
    """The function `name` of the module's app. Raises InvalidError when this module does not define it."""
    app = getattr(module, app_variable, None)
    candidates = [app] if isinstance(app, SdkApp) else registered_apps()
    for candidate in candidates:
        function = candidate.registered_functions.get(name)
        if function is not None:
            return function
    raise InvalidError(
        f"The function {name!r} is there when {module.__name__} is loaded on the developer's machine, but not in the "
        f"container. Define functions unconditionally, not under `if zygo.is_local():`."
    )


class App:
    """The ASGI application of one web function, made in two steps.

    `prebuild` runs in the revision zygote and does what is ours and safe to share by fork: wrapping a handler in
    FastAPI and warming its routes. `build` runs in the container: a user's factory may open connections and threads.
    """

    def __init__(self, function: Function, debug: bool) -> None:
        self.function = function
        self.debug = debug
        self.notes: list[str] = []
        self.asgi: Asgi | None = None

    def prebuild(self) -> bool:
        """Whether there is a web application to make. Raises what FastAPI raises on a signature it cannot serve."""
        web = self.function.web
        if web is None:
            return False
        if web.kind == "fastapi_endpoint":
            self.asgi = self._fastapi()
            _warm(self.asgi)
        return True

    def build(self) -> Asgi:
        """The application. Raises what the user's factory raises, InvalidError when it returned something else."""
        if self.asgi is not None:
            return self.asgi
        made = self.function.raw()
        if not callable(made):
            raise InvalidError(
                f"The asgi_app factory {self.function.name!r} returned {type(made).__name__}, which is not an ASGI application. "
                f"Return the application object, for example `return FastAPI()`."
            )
        return made  # type: ignore[no-any-return]

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

    @contextmanager
    def warm_route(self) -> Iterator[bytes | None]:
        """A request line for the time of the block, and a route of ours that answers it as the user's would be answered:
        parameters, thread, encoding. None for an application that is not ours."""
        if self.asgi is None:
            yield None
            return
        made: Any = self.asgi
        routes = made.router.routes
        made.add_api_route(
            "/__zygo_warm__",
            _answer_async if asyncio.iscoroutinefunction(self.function.raw) else _answer,
            methods=["PROPFIND"],
            include_in_schema=False,
        )
        try:
            yield b"PROPFIND /__zygo_warm__?x=1 HTTP/1.1"
        finally:
            routes.pop()


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


def _warm(app: Asgi) -> None:
    """One request with a method that no route has: builds the middleware stack, which would cost the first caller 5 ms."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PROPFIND",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(app(scope, receive, send))
    finally:
        loop.close()
