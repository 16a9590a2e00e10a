"""What a program that calls functions asks of the server itself: which functions there are, how busy they are, and calls whose
results are kept (`spawned`).

Served on a socket of its own behind the gateway's listeners for calls, as the function `zygo`: containers reach it too, so it
holds nothing but what a container may do.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import Error, InvalidError, to_json
from zygo.gateway.admission import Admission
from zygo.gateway.container import Backend
from zygo.gateway.routes import Endpoint
from zygo.server.bodies import read_json
from zygo.server.spawned import MAX_REQUEST, SpawnedApi

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from zygo.gateway.admission import Clock
    from zygo.gateway.calls import Dispatcher
    from zygo.server.called import CalledFunctions

log = logging.getLogger("zygo.calls")

MOST_REQUESTS = 10_000
"""Requests that the server answers at once."""

SERVER = "zygo"
"""The host under which callers find this; no function id is like it."""


def build_calls_api(functions: CalledFunctions, dispatcher: Dispatcher) -> Starlette:
    """The application."""
    api = _CallsApi(functions)
    routes = [
        Route("/v1/functions", api.find),
        Route("/v1/functions", api.find_variant, methods=["POST"]),
        Route("/v1/functions/{id}/stats", api.stats),
        Route("/v1/functions/{id}/autoscaler", api.update_autoscaler, methods=["POST"]),
        *SpawnedApi(functions, dispatcher).routes,
    ]
    return Starlette(routes=routes, exception_handlers={Error: _error_response, Exception: _error_response})


def endpoint(socket: Path, clock: Clock) -> Endpoint:
    """How the gateway reaches it."""
    admission = Admission(max_waiting=1000, clock=clock)
    # Most of them wait for a result, which costs nothing but a connection.
    admission.add(Backend("server", str(socket), MOST_REQUESTS))
    return Endpoint(
        function=SERVER,
        app=SERVER,
        url="",
        admission=admission,
        timeout=60.0,
        queue_timeout=60.0,
        max_body=MAX_REQUEST,
    )


class _CallsApi:
    def __init__(self, functions: CalledFunctions) -> None:
        self._functions = functions

    async def find(self, request: Request) -> Response:
        """A function by the app's name and its own."""
        query = request.query_params
        environment = query.get("environment", "")
        return JSONResponse(self._functions.describe(query.get("app", ""), query.get("name", ""), None, environment))

    async def find_variant(self, request: Request) -> Response:
        """The same with parameters or options, which may be secrets and so are no part of the URL."""
        body = await read_json(request)
        variant = body.get("variant")
        if not isinstance(variant, dict):
            raise InvalidError("The variant is not a JSON object.")
        app, name, environment = (str(body.get(key) or "") for key in ("app", "name", "environment"))
        return JSONResponse(self._functions.describe(app, name, variant, environment))

    async def stats(self, request: Request) -> Response:
        """How busy it is."""
        return JSONResponse(self._functions.stats(request.path_params["id"]))

    async def update_autoscaler(self, request: Request) -> Response:
        """Other bounds, until the next revision."""
        settings = await read_json(request)
        return JSONResponse(self._functions.update_autoscaler(request.path_params["id"], settings))


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, Error):
        return JSONResponse({"error": to_json(error)}, status_code=error.http_status)
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    said: dict[str, Any] = {
        "kind": "InternalFailure",
        "message": f"{type(error).__name__}: {error}; see the server's log",
    }
    return JSONResponse({"error": said}, status_code=500)
