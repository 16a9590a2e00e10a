"""The control API's routes for named secrets. Values come in and never go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import InvalidError, NotFoundError
from zygo.server.bodies import read_json
from zygo.server.environment_api import environment_of
from zygo.server.guard import caller_of
from zygo.server.secrets import shown

if TYPE_CHECKING:
    from starlette.requests import Request

    from zygo.server.main import Server


def secret_routes(server: Server) -> list[Route]:
    """The routes."""
    api = _SecretApi(server)
    return [
        Route("/v1/secrets", api.list),
        Route("/v1/secrets", api.create, methods=["POST"]),
        Route("/v1/secrets/{name}", api.delete, methods=["DELETE"]),
    ]


class _SecretApi:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def list(self, request: Request) -> Response:
        environment = environment_of(self._server, request)
        return JSONResponse({"secrets": await self._server.secrets.list(environment)})

    async def create(self, request: Request) -> Response:
        environment, body = environment_of(self._server, request), await read_json(request)
        name, values, force = str(body.get("name") or ""), body.get("values"), bool(body.get("force"))
        if not isinstance(values, dict):
            raise InvalidError("The request's 'values' is not an object.")
        record = await self._server.secrets.put(environment, name, values, replace=force)
        await self._server.audit.add(
            caller_of(request.scope), "secret create", name, environment=environment.name, keys=list(record.keys)
        )
        return JSONResponse(shown(record))

    async def delete(self, request: Request) -> Response:
        environment, name = environment_of(self._server, request), request.path_params["name"]
        if not await self._server.secrets.delete(environment, name):
            known = ", ".join(secret["name"] for secret in await self._server.secrets.list(environment))
            raise NotFoundError(f"There is no secret {name[:64]!r}. {f'There are: {known}.' if known else 'None is.'}")
        await self._server.audit.add(caller_of(request.scope), "secret delete", name, environment=environment.name)
        return JSONResponse({"name": name})
