"""Projects without a line of zygo, served and deployed as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

SHOP = """
    from contextlib import asynccontextmanager
    from pathlib import Path

    from fastapi import FastAPI, WebSocket

    from .prices import PRICE

    @asynccontextmanager
    async def lifespan(app):
        app.state.calls = 0
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/price")
    def price():
        app.state.calls += 1
        return {"price": PRICE, "calls": app.state.calls, "note": Path("shop/note.txt").read_text()}

    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text(await socket.receive_text())
"""


def test_a_fastapi_package_is_served_and_follows_saves(place: Place, write: Callable[..., Path]) -> None:
    write("", "shop/__init__.py")
    write("PRICE = 1\n", "shop/prices.py")
    write("hello", "shop/note.txt")
    path = write(SHOP, "shop/main.py")
    with place.serve("shop/main.py", cwd=path.parents[1]) as serve:
        serve.wait_for("no requirements.txt or pyproject.toml", anywhere=True)
        answers = [serve.get("app", path="/price").json() for _ in range(2)]
        assert [answer["calls"] for answer in answers] == [1, 2], "one process answers all"
        assert answers[0] == {"price": 1, "calls": 1, "note": "hello"}
        serve.save("shop/prices.py", "PRICE = 2\n")
        serve.wait_for(r"Updated main in")
        assert serve.get("app", path="/price").json() == {"price": 2, "calls": 1, "note": "hello"}
        serve.save("shop/note.txt", "changed")
        serve.wait_for(r"Updated main in")
        assert serve.get("app", path="/price").json()["note"] == "changed"


def test_a_plain_application_is_deployed_under_a_name(place: Place, write: Callable[..., Path]) -> None:
    write("starlette\n", "requirements.txt")
    path = write(
        """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def home(request):
            return PlainTextResponse("home")

        application = Starlette(routes=[Route("/", home)])
        """,
        "server.py",
    )
    refused = place.zygo("deploy", str(path))
    assert refused.code == 1
    assert f"zygo deploy {path} --name server" in refused.text
    result = place.deploy(path, "--name", "site")
    try:
        assert httpx.get(result["urls"]["app"], trust_env=False).text == "home"
    finally:
        assert place.zygo("app", "stop", "--yes", "site").code == 0
