"""The control API's routes for environments; and which environment a request means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import ConflictError, InvalidError
from zygo.model import MAIN
from zygo.server.bodies import read_json
from zygo.server.environments import Environment, shown
from zygo.server.guard import caller_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from zygo.server.main import Server


def environment_routes(server: Server) -> list[Route]:
    """The routes."""
    api = _EnvironmentApi(server)
    return [
        Route("/v1/environments", api.list),
        Route("/v1/environments", api.create, methods=["POST"]),
        Route("/v1/environments/{environment}", api.update, methods=["PATCH"]),
        Route("/v1/environments/{environment}", api.delete, methods=["DELETE"]),
    ]


def environment_of(server: Server, request: Request) -> Environment:
    """The environment that a request names with `?environment=`, else the first one. Raises NotFoundError."""
    return server.environments.named(request.query_params.get("environment", ""))


class _EnvironmentApi:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def list(self, request: Request) -> Response:
        return JSONResponse({"environments": [self._shown(each) for each in self._server.environments.all]})

    async def create(self, request: Request) -> Response:
        body = await read_json(request)
        made = await self._server.environments.create(_text(body, "name") or "", _text(body, "web_suffix"))
        await self._server.audit.add(
            caller_of(request.scope), "environment create", made.name, web_suffix=made.web_suffix
        )
        return JSONResponse(self._shown(made))

    async def update(self, request: Request) -> Response:
        """Another name or suffix: what is deployed there gets new containers, which know them."""
        body, server = await read_json(request), self._server
        environment = server.environments.named(request.path_params["environment"])
        before, name, suffix = environment.name, _text(body, "name"), _text(body, "web_suffix")
        async with server.environments.lock:
            await server.environments.change(environment, name, suffix)
            failed = await server.deployed.move(environment)
        detail: dict[str, Any] = {"name": name, "web_suffix": suffix, "failed": list(failed)}
        await server.audit.add(caller_of(request.scope), "environment update", before, **detail)
        return JSONResponse({**self._shown(environment), "failed": failed})

    async def delete(self, request: Request) -> Response:
        """With `?apps=stop` what is live there is stopped; else it must be empty."""
        server = self._server
        environment = server.environments.named(request.path_params["environment"])
        if environment.id == MAIN:
            raise InvalidError(f"The environment {environment.name!r} is the default one, and stays.")
        async with server.environments.lock:
            live = [app for app in server.apps.all if app.environment is environment and app.kind != "preview"]
            if live and request.query_params.get("apps") != "stop":
                raise ConflictError(
                    f"In the environment {environment.name!r} {', '.join(sorted({app.name for app in live}))} live. "
                    f"`zygo environment delete {environment.name} --yes` stops them."
                )
            for app in live:
                if app.kind == "deployed":
                    await server.deployed.stop(environment, app.name)
                elif app.session is not None:
                    app.session.end(f"`zygo environment delete {environment.name}`")
                    await server.apps.end(app)
            await server.environments.forget(environment)
            server.app_logs.remove(environment.id)
        stopped = sorted({app.name for app in live})
        await server.audit.add(caller_of(request.scope), "environment delete", environment.name, stopped=stopped)
        return JSONResponse({**shown(environment), "stopped": stopped})

    def _shown(self, environment: Environment) -> dict[str, Any]:
        live = [app for app in self._server.apps.all if app.environment is environment and app.kind != "preview"]
        return {**shown(environment), "apps": sorted({app.name for app in live})}


def _text(body: dict[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidError(f"The request's {key!r} is not a text.")
    return value
