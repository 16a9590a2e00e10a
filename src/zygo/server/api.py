"""The control API: parse, call one function, serialise. It listens on a unix socket that only its owner can open, and where
that is asked for on a TCP port behind tokens (control.py, guard.py)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from zygo.errors import Error, InvalidError, to_json
from zygo.model import MAIN, AppSpec, Provenance, decode
from zygo.server import log_api
from zygo.server.access import needed
from zygo.server.bodies import read_json
from zygo.server.environment_api import environment_of, environment_routes
from zygo.server.faults import explained
from zygo.server.guard import caller_of
from zygo.server.logs import tail
from zygo.server.remote_calls import PREFIX, CallsOverTcp
from zygo.server.remote_sessions import RemoteSession
from zygo.server.secret_api import secret_routes
from zygo.server.token_api import token_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from zygo.server.environments import Environment
    from zygo.server.main import Server
    from zygo.server.sessions import Session

    Work = Callable[[Callable[[dict[str, Any]], None]], Awaitable[dict[str, Any]]]

log = logging.getLogger("zygo.api")
NDJSON = "application/x-ndjson"


def build_api(server: Server) -> Starlette:
    """The application. Every route is one method of `_Api`; errors of zygo.errors become their HTTP status."""
    api = _Api(server)
    routes = [
        Route("/v1/status", api.status),
        Route("/v1/stop", api.stop, methods=["POST"]),
        Route("/v1/logs", api.logs),
        Route("/v1/apps/{name}/logs", api.app_logs),
        Route("/v1/sessions", api.open_session, methods=["POST"]),
        Route("/v1/sessions/{id}/hold", api.hold, methods=["POST"]),
        Route("/v1/sessions/{id}/release", api.release, methods=["POST"]),
        Route("/v1/sessions/{id}/resume", api.resume, methods=["POST"]),
        Route("/v1/sessions/{id}/seen", api.seen, methods=["POST"]),
        Route("/v1/sessions/{id}/end", api.end_session, methods=["POST"]),
        Route("/v1/sessions/{id}/finish", api.finish, methods=["POST"]),
        Route("/v1/sessions/{id}/revisions", api.publish, methods=["POST"]),
        Route("/v1/apps", api.apps),
        Route("/v1/proxy-tokens", api.proxy_tokens),
        Route("/v1/proxy-tokens", api.create_proxy_token, methods=["POST"]),
        Route("/v1/proxy-tokens/{id}", api.delete_proxy_token, methods=["DELETE"]),
        Route("/v1/apps/{name}/deployments", api.deploy, methods=["POST"]),
        Route("/v1/apps/{name}/revisions", api.history),
        Route("/v1/apps/{name}/rollback", api.rollback, methods=["POST"]),
        Route("/v1/apps/{name}/rollover", api.rollover, methods=["POST"]),
        Route("/v1/apps/{name}/stop", api.stop_app, methods=["POST"]),
        Route("/v1/blobs/missing", api.missing_blobs, methods=["POST"]),
        Route("/v1/blobs/{sha256}", api.put_blob, methods=["PUT"]),
        *token_routes(server.tokens, server.audit),
        *environment_routes(server),
        *secret_routes(server),
    ]
    guarded: list[BaseRoute] = [_scoped(route) for route in routes]
    guarded.append(Mount(PREFIX.rstrip("/"), CallsOverTcp(server.settings.calls_socket)))
    return Starlette(routes=guarded, exception_handlers={Error: _error_response, Exception: _error_response})


def _scoped(route: Route) -> Route:
    """The same route, for callers that have its scope."""
    handler, methods = route.endpoint, sorted((route.methods or {"GET"}) - {"HEAD"})

    async def checked(request: Request) -> Response:
        scope = needed(request.method.replace("HEAD", "GET"), route.path)
        caller_of(request.scope).require(scope, f"{request.method} {request.url.path}")
        response: Response = await handler(request)
        return response

    return Route(route.path, checked, methods=methods)


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, Error):
        return JSONResponse({"error": to_json(error)}, status_code=error.http_status)
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if isinstance(error, OSError):
        found = explained(error)
        return JSONResponse({"error": to_json(found)}, status_code=found.http_status)
    body = {"kind": "InternalFailure", "message": f"{type(error).__name__}: {error}; see `zygo server logs`"}
    return JSONResponse({"error": body}, status_code=500)


class _Api:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def status(self, request: Request) -> Response:
        return JSONResponse(self._server.status())

    async def stop(self, request: Request) -> Response:
        replaced = bool((await read_json(request)).get("replaced"))
        await self._server.audit.add(caller_of(request.scope), "server stop", "", replaced=replaced)
        self._server.stop("a newer command replaces it" if replaced else "`zygo server stop`", replaced=replaced)
        return JSONResponse({})

    async def logs(self, request: Request) -> Response:
        lines = tail(self._server.log_path, _number(request.query_params.get("tail", "100")))
        if request.query_params.get("follow") not in ("1", "true"):
            return PlainTextResponse("".join(f"{line}\n" for line in lines))
        return StreamingResponse(self._follow(lines), media_type="text/plain")

    async def _follow(self, lines: list[str]) -> AsyncIterator[str]:
        for line in lines:
            yield f"{line}\n"
        queue: asyncio.Queue[str] = asyncio.Queue(1000)
        handler = _QueueHandler(queue)
        logging.getLogger().addHandler(handler)
        try:
            while True:
                yield f"{await queue.get()}\n"
        finally:
            logging.getLogger().removeHandler(handler)

    async def app_logs(self, request: Request) -> Response:
        query = QueryParams([(key, value) for key, value in request.query_params.multi_items() if key != "environment"])
        place = environment_of(self._server, request).id
        return await log_api.respond(self._server.app_logs, request.path_params["name"], place, query)

    async def open_session(self, request: Request) -> Response:
        body = await read_json(request)
        app, file = str(body.get("app") or ""), str(body.get("file") or "")
        flags = {name: bool(body.get(name)) for name in ("force", "running", "detached", "remote")}
        place = environment_of(self._server, request)
        session = await self._server.apps.open(app, file, place, **flags)
        action = "run" if flags["running"] else "serve"
        await self._server.audit.add(caller_of(request.scope), action, app, environment=_told(place))
        return _SessionResponse(session)

    async def resume(self, request: Request) -> Response:
        session, body = self._remote(request), await read_json(request)
        after = body.get("after")
        return _SessionResponse(session, after if isinstance(after, int) else 0)

    async def seen(self, request: Request) -> Response:
        after = (await read_json(request)).get("after")
        self._remote(request).seen(after if isinstance(after, int) else 0)
        return JSONResponse({})

    async def end_session(self, request: Request) -> Response:
        self._remote(request).goodbye()
        return JSONResponse({})

    def _remote(self, request: Request) -> RemoteSession:
        session = self._server.apps.by_session(request.path_params["id"]).session
        if not isinstance(session, RemoteSession):
            raise InvalidError("That session lives as long as its connection.")
        return session

    async def hold(self, request: Request) -> Response:
        app = self._server.apps.by_session(request.path_params["id"])
        app.hold_for(_change(await read_json(request)))
        return JSONResponse({})

    async def release(self, request: Request) -> Response:
        app = self._server.apps.by_session(request.path_params["id"])
        app.settled(_change(await read_json(request)))
        app.release()
        return JSONResponse({})

    async def finish(self, request: Request) -> Response:
        await self._server.apps.finish(self._server.apps.by_session(request.path_params["id"]))
        return JSONResponse({})

    async def publish(self, request: Request) -> Response:
        app, body = self._server.apps.by_session(request.path_params["id"]), await read_json(request)
        app.settled(_change(body))
        await self._take_content(body)
        spec = _decoded(AppSpec, body, "app")
        return StreamingResponse(
            _stream(lambda emit: self._server.deployments.publish(app, spec, emit)), media_type=NDJSON
        )

    async def apps(self, request: Request) -> Response:
        server = self._server
        found = {"apps": server.apps.describe(), "stopped": await server.deployed.stopped()}
        return JSONResponse({**found, "environment": server.environments.named("").name})

    async def deploy(self, request: Request) -> Response:
        name, place = request.path_params["name"], environment_of(self._server, request)
        body = await read_json(request)
        await self._take_content(body)
        spec, by = _decoded(AppSpec, body, "app"), _by(request, body)
        strategy = str(body.get("strategy", "rolling"))
        return self._changing(
            request, "deploy", by, lambda emit: self._server.deployed.deploy(place, name, spec, by, strategy, emit)
        )

    def _changing(self, request: Request, action: str, by: Provenance | None, work: Work) -> Response:
        """The stream of a change of an app, which is written down."""
        name, caller = request.path_params["name"], caller_of(request.scope)
        detail: dict[str, Any] = {"environment": _told(environment_of(self._server, request))}
        if by is not None:
            detail |= {"tag": by.tag, "commit": by.commit, "client_version": by.client_version}
        audit = self._server.audit
        return StreamingResponse(
            _stream(lambda emit: audit.around(caller, action, name, work(emit), **detail)), media_type=NDJSON
        )

    async def _take_content(self, body: dict[str, Any]) -> None:
        """Content that came along with an app instead of in a request of its own, as base64 by hash."""
        content = body.get("content")
        if content is None:
            return
        try:
            decoded = {str(sha256): base64.b64decode(text, validate=True) for sha256, text in content.items()}
        except (AttributeError, TypeError, ValueError):
            raise InvalidError("The request's 'content' is not an object of base64 texts by hash.") from None
        for sha256, data in decoded.items():
            await self._server.sources.put(sha256, _once(data))

    async def history(self, request: Request) -> Response:
        place, name = environment_of(self._server, request), request.path_params["name"]
        return JSONResponse({"revisions": await self._server.deployed.history(place, name)})

    async def rollback(self, request: Request) -> Response:
        name, body, place = request.path_params["name"], await read_json(request), environment_of(self._server, request)
        by, strategy, version = (
            _by(request, body),
            str(body.get("strategy", "rolling")),
            body.get("version"),
        )
        if version is not None and not isinstance(version, int):
            raise InvalidError(f"{version!r} is not the number of a version.")
        return self._changing(
            request,
            "rollback",
            by,
            lambda emit: self._server.deployed.rollback(place, name, version, by, strategy, emit),
        )

    async def rollover(self, request: Request) -> Response:
        name, strategy = request.path_params["name"], str((await read_json(request)).get("strategy", "rolling"))
        place = environment_of(self._server, request)
        return self._changing(
            request, "rollover", None, lambda emit: self._server.deployed.rollover(place, name, strategy, emit)
        )

    async def stop_app(self, request: Request) -> Response:
        name, apps = request.path_params["name"], self._server.apps
        caller, audit, place = caller_of(request.scope), self._server.audit, environment_of(self._server, request)
        running = [] if apps.find(name, "deployed", place) else apps.runs(name, place)
        told = _told(place)
        if not running:
            stopping = self._server.deployed.stop(place, name)
            return JSONResponse(await audit.around(caller, "stop", name, stopping, environment=told))
        containers = sum(pool.total for app in running for g in app.generations for pool in g.pools.values())
        for app in running:
            await apps.end(app)
            if app.session is not None:
                app.session.end(f"`zygo app stop {name}`")
        await audit.add(caller, "stop", name, environment=told)
        return JSONResponse({"name": name, "containers": containers})

    async def proxy_tokens(self, request: Request) -> Response:
        return JSONResponse({"tokens": await self._server.proxy_tokens.list()})

    async def create_proxy_token(self, request: Request) -> Response:
        return JSONResponse(await self._server.proxy_tokens.create())

    async def delete_proxy_token(self, request: Request) -> Response:
        await self._server.proxy_tokens.delete(request.path_params["id"])
        return JSONResponse({})

    async def missing_blobs(self, request: Request) -> Response:
        body = await read_json(request)
        return JSONResponse({"missing": self._server.sources.missing(map(str, body.get("sha256") or ()))})

    async def put_blob(self, request: Request) -> Response:
        await self._server.sources.put(request.path_params["sha256"], request.stream())
        return JSONResponse({})


class _SessionResponse(StreamingResponse):
    """A session's events. However this ends, even before its first byte, the session hears of it."""

    def __init__(self, session: Session, after: int = 0) -> None:
        super().__init__(self._lines(after), media_type=NDJSON)
        self._session = session

    async def _lines(self, after: int) -> AsyncIterator[bytes]:
        async for events in self._session.events(after):
            yield b"".join(json.dumps(event).encode() + b"\n" for event in events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._session.client_gone()


T = TypeVar("T")


def _told(environment: Environment) -> str:
    """What the audit log says of it: nothing of the one that every server has."""
    return "" if environment.id == MAIN else environment.name


def _by(request: Request, body: dict[str, Any]) -> Provenance:
    """Who makes a revision: over TCP the token, whatever the command says; on this machine the user that it names."""
    by, caller = _decoded(Provenance, body, "by"), caller_of(request.scope)
    return replace(by, deployed_by=caller.name) if caller.remote else by


def _change(body: dict[str, Any]) -> int:
    """The number of the change that a session speaks of. Raises InvalidError."""
    found = body.get("change", 0)
    if not isinstance(found, int):
        raise InvalidError(f"{found!r} is not the number of a change.")
    return found


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _decoded(cls: type[T], body: dict[str, Any], key: str) -> T:
    try:
        return decode(cls, body[key])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidError(f"The request's {key!r} cannot be read: {error}") from None


async def _stream(
    work: Work,
) -> AsyncIterator[bytes]:
    """Run `work`, streaming what it emits, its result last. A client that goes away cancels it."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (event := await queue.get()) is not None:
            yield json.dumps(event).encode() + b"\n"
        try:
            result = await task
        except Error as error:
            result = {"type": "error", "error": to_json(error)}  # the answer has begun: its status says nothing
        except Exception as error:
            log.error("a change of an app failed", exc_info=error)
            text = f"{type(error).__name__}: {error}; see `zygo server logs`"
            result = {"type": "error", "error": {"kind": "InternalFailure", "message": text}}
        yield json.dumps(result).encode() + b"\n"
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidError(f"{text!r} is not a number of lines.")
    return min(int(text), 10_000)


class _QueueHandler(logging.Handler):
    def __init__(self, queue: asyncio.Queue[str]) -> None:
        super().__init__()
        self._queue = queue
        self.setFormatter(logging.getLogger().handlers[0].formatter)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._queue.full():
            self._queue.put_nowait(self.format(record))
