"""What an ASGI application is told of a request, and of the beginning and the end of its container."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from e2e.http_kit import app_log
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PROGRAM = """
import json

import zygo

app = zygo.App("scopes", image=zygo.Image.debian_slim().pip_install("websockets"))


async def scopes(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["pool"] = "of the lifespan"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    scope["headers"] = [(key.decode(), value.decode("latin-1")) for key, value in scope["headers"]]
    said = json.dumps(scope, default=lambda value: value.decode("latin-1") if isinstance(value, bytes) else str(value))
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": said})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": said.encode()})


@app.function(scaledown_window=2)
@zygo.asgi_app()
def web():
    return scopes
"""


@pytest.mark.parametrize("by", ["port", "name"])
def test_the_scope_is_complete(place: Place, write: Callable[..., Path], by: str) -> None:
    with place.serve(write(PROGRAM)) as serve:
        url = serve.url("web") if by == "port" else serve.hostname_url("web")
        parts = urlsplit(url)
        transport = f"http://127.0.0.1:{parts.port}"
        with httpx.Client(trust_env=False, timeout=60, headers={"Host": parts.netloc}) as client:
            scope = client.get(f"{transport}/a%20b/%C3%A4?q=%20&q=2", headers={"X-Own": "1"}).json()
        assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == (
            "http",
            "1.1",
            "GET",
            "http",
        )
        assert scope["asgi"]["version"] == "3.0"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/ä", "/a%20b/%C3%A4", "q=%20&q=2")
        assert scope["root_path"] == ""
        assert scope["server"] == [parts.hostname, parts.port]
        assert scope["client"][0] == "127.0.0.1"
        assert scope["state"] == {"pool": "of the lifespan"}
        headers = dict(scope["headers"])
        assert (headers["host"], headers["x-own"]) == (parts.netloc, "1")

        if by == "port":
            with connect(url.replace("http", "ws", 1) + "/w%20s?a=b", proxy=None, open_timeout=60) as ws:
                scope = json.loads(ws.recv(timeout=30))
            assert (scope["type"], scope["scheme"], scope["path"], scope["raw_path"]) == (
                "websocket",
                "ws",
                "/w s",
                "/w%20s",
            )
            assert (scope["query_string"], scope["root_path"], scope["server"]) == (
                "a=b",
                "",
                ["127.0.0.1", parts.port],
            )
            assert scope["state"] == {"pool": "of the lifespan"}
            assert scope["subprotocols"] == []
        until(lambda: "shut down" in app_log(place, "scopes"), 60, "the lifespan's shutdown")
        assert serve.stop() == 0
