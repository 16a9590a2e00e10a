"""The control API's routes for tokens and for the audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import InvalidError
from zygo.model import encode
from zygo.server.bodies import read_json
from zygo.server.guard import caller_of
from zygo.server.tokens import shown

if TYPE_CHECKING:
    from starlette.requests import Request

    from zygo.server.audit import Audit
    from zygo.server.tokens import Tokens

MOST = 1000
"""Audit entries in one answer."""


def token_routes(tokens: Tokens, audit: Audit) -> list[Route]:
    """The routes."""
    api = _TokenApi(tokens, audit)
    return [
        Route("/v1/tokens", api.tokens),
        Route("/v1/tokens", api.create, methods=["POST"]),
        Route("/v1/tokens/{name}/rotate", api.rotate, methods=["POST"]),
        Route("/v1/tokens/{name}", api.delete, methods=["DELETE"]),
        Route("/v1/audit", api.entries),
    ]


class _TokenApi:
    def __init__(self, tokens: Tokens, audit: Audit) -> None:
        self._tokens = tokens
        self._audit = audit

    async def tokens(self, request: Request) -> Response:
        return JSONResponse({"tokens": [shown(token) for token in self._tokens.list()]})

    async def create(self, request: Request) -> Response:
        body, caller = await read_json(request), caller_of(request.scope)
        by = caller.name if caller.remote else self._audit.owner
        scopes = [str(scope) for scope in body.get("scopes") or ()]
        token, text = await self._tokens.create(str(body.get("name") or ""), scopes, _seconds(body, "expires_in"), by)
        await self._audit.add(
            caller, "token create", token.name, scopes=list(token.scopes), expires_at=token.expires_at
        )
        return JSONResponse({**shown(token), "token": text})

    async def rotate(self, request: Request) -> Response:
        name, body = request.path_params["name"], await read_json(request)
        token, text = await self._tokens.rotate(name, _seconds(body, "overlap") or 0.0)
        await self._audit.add(caller_of(request.scope), "token rotate", name, old_until=token.old_until)
        return JSONResponse({**shown(token), "token": text})

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        token = await self._tokens.delete(name)
        await self._audit.add(caller_of(request.scope), "token delete", name)
        return JSONResponse(shown(token))

    async def entries(self, request: Request) -> Response:
        text = request.query_params.get("limit", "100")
        if not text.isdecimal():
            raise InvalidError(f"{text!r} is not a number of entries.")
        found = await self._audit.entries(min(int(text), MOST), request.query_params.get("target", ""))
        return JSONResponse({"entries": [{**encode(entry), "detail": json.loads(entry.detail)} for entry in found]})


def _seconds(body: dict[str, Any], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value == value:
        raise InvalidError(f"{key} is a number of seconds, not {value!r}.")
    return float(value)
