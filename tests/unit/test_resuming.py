"""A session over a connection that is cut, against a server in this process: the command's side and the server's together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import ConnectionError, NotFoundError, to_json
from zygo.sdk.client import Client
from zygo.sdk.where import Remote
from zygo.server.api import _SessionResponse
from zygo.server.remote_sessions import RemoteSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


class Server:
    """The sessions' part of the control API, whose connections can be cut."""

    def __init__(self) -> None:
        self.session: RemoteSession | None = None
        self.opened = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/sessions", self.open, methods=["POST"]),
                Route("/v1/sessions/{id}/resume", self.resume, methods=["POST"]),
                Route("/v1/sessions/{id}/end", self.end, methods=["POST"]),
            ]
        )

    async def open(self, request: Request) -> Response:
        self.opened += 1
        self.session = RemoteSession("hello", "hello.py")
        return _SessionResponse(self.session)

    async def resume(self, request: Request) -> Response:
        if self.session is None:
            return JSONResponse({"error": to_json(NotFoundError("There is no session."))}, status_code=404)
        return _SessionResponse(self.session, json.loads(await request.body())["after"])

    async def end(self, request: Request) -> Response:
        if self.session is not None:
            self.session.goodbye()
        return JSONResponse({})


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[tuple[Remote, uvicorn.Server]]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as tcp.listen does
    config = uvicorn.Config(server.app(), log_config=None, lifespan="off", ws="none")
    api = uvicorn.Server(config)
    api.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(api.serve(sockets=[sock]))
    try:
        yield Remote("http", "127.0.0.1", sock.getsockname()[1], token="t"), api
    finally:
        api.should_exit = api.force_exit = True
        await task


def cut(api: uvicorn.Server) -> None:
    for connection in list(api.server_state.connections):
        connection.transport.abort()


def test_a_stream_that_is_cut_goes_on_where_it_was() -> None:
    async def body() -> None:
        server = Server()
        async with running(server) as (remote, api), Client("", remote=remote) as client:
            async with client.session(app="hello", file="hello.py") as session:
                assert session.resumable
                assert server.session is not None
                events = session.events()
                server.session.emit({"type": "log", "text": "before"})
                assert (await anext(events))["text"] == "before"
                cut(api)
                assert "Taking the connection up again" in (await anext(events))["text"]
                server.session.emit({"type": "log", "text": "meanwhile"})
                assert "is there again" in (await anext(events))["text"]
                assert (await anext(events))["text"] == "meanwhile"
                server.session.emit({"type": "log", "text": "after"})
                assert (await anext(events))["text"] == "after"
                assert not server.session.ended.is_set()
                await events.aclose()  # type: ignore[attr-defined]
            assert server.session.ended.is_set()  # a goodbye was said
            assert server.opened == 1

    asyncio.run(asyncio.wait_for(body(), 30))


def test_one_that_the_server_does_not_know_any_more_is_lost() -> None:
    async def body() -> str:
        server = Server()
        async with (
            running(server) as (remote, api),
            Client("", remote=remote) as client,
            client.session(app="hello", file="hello.py") as session,
        ):
            server.session = None
            cut(api)
            try:
                async for _ in session.events():
                    pass
            except ConnectionError as error:
                return str(error)
        raise AssertionError("it went on")

    assert "has ended the app meanwhile" in asyncio.run(asyncio.wait_for(body(), 30))
