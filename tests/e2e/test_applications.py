"""Whole applications, each driven as its users do. The heavy ones are in test_heavy_applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from e2e.applications_kit import APPLICATIONS, served

if TYPE_CHECKING:
    from zygo.testing.harness import Place


def test_fastapi_routers_dependencies_and_a_chat(place: Place) -> None:
    with served(place, "fastapi") as serve:
        url = serve.url("web")
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            first = client.get("/")
            assert first.json() == {"app": "Chat", "rooms": f"{url}/rooms"}, "URLs are those that callers use"
            assert first.headers["server-timing"].startswith("app;dur=")
            assert client.post("/rooms/tea").status_code == 401
            assert client.post("/rooms/tea", headers={"X-User": "Ada"}).json()["owner"] == "Ada"
            assert "/rooms/{name}" in client.get("/openapi.json").json()["paths"]
            assert "swagger" in client.get("/docs").text
            big = {"file": ("big.bin", b"x" * 30_000_000)}
            assert client.post("/rooms/tea/files", files=big, headers={"X-User": "Ada"}).json()["size"] == 30_000_000
            chat = url.replace("http", "ws", 1) + "/rooms/tea/chat"
            with connect(f"{chat}?user=Ada") as ada, connect(f"{chat}?user=Bob") as bob:
                bob.send("hello")
                assert [ada.recv(20), bob.recv(20)] == ["Bob: hello"] * 2
                ada.send("tea?")
                assert [ada.recv(20), bob.recv(20)] == ["Ada: tea?"] * 2
            assert client.get("/rooms/tea/messages").text == "data: Bob: hello\n\ndata: Ada: tea?\n\n"
            with pytest.raises((InvalidStatus, ConnectionClosed)):
                connect(url.replace("http", "ws", 1) + "/rooms/none/chat?user=Ada").recv(20)
        assert serve.seen(r"web \| the chat is open")


def test_fastapi_the_same_project_without_a_line_of_zygo(place: Place) -> None:
    with place.serve("chat/main.py", cwd=APPLICATIONS / "fastapi") as serve:
        assert serve.get("app", path="/rooms").json() == {"rooms": []}
