"""Whole applications, each driven as its users do. The heavy ones are in test_heavy_applications."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from e2e.applications_kit import APPLICATIONS, browser_page, served

if TYPE_CHECKING:
    from zygo.testing.harness import Place, Serve


def client_of(serve: Serve) -> httpx.Client:
    return httpx.Client(base_url=serve.url("web"), trust_env=False, timeout=60)


def socket_url(serve: Serve, path: str) -> str:
    return serve.url("web").replace("http", "ws", 1) + path


def test_fastapi_routers_dependencies_and_a_chat(place: Place) -> None:
    with served(place, "fastapi") as serve:
        url = serve.url("web")
        with client_of(serve) as client:
            first = client.get("/")
            assert first.json() == {"app": "Chat", "rooms": f"{url}/rooms"}, "URLs are those that callers use"
            assert first.headers["server-timing"].startswith("app;dur=")
            assert client.post("/rooms/tea").status_code == 401
            assert client.post("/rooms/tea", headers={"X-User": "Ada"}).json()["owner"] == "Ada"
            assert "/rooms/{name}" in client.get("/openapi.json").json()["paths"]
            assert "swagger" in client.get("/docs").text
            big = {"file": ("big.bin", b"x" * 30_000_000)}
            assert client.post("/rooms/tea/files", files=big, headers={"X-User": "Ada"}).json()["size"] == 30_000_000
            chat = socket_url(serve, "/rooms/tea/chat")
            with connect(f"{chat}?user=Ada") as ada, connect(f"{chat}?user=Bob") as bob:
                bob.send("hello")
                assert [ada.recv(20), bob.recv(20)] == ["Bob: hello"] * 2
                ada.send("tea?")
                assert [ada.recv(20), bob.recv(20)] == ["Ada: tea?"] * 2
            assert client.get("/rooms/tea/messages").text == "data: Bob: hello\n\ndata: Ada: tea?\n\n"
            with pytest.raises((InvalidStatus, ConnectionClosed)):
                connect(socket_url(serve, "/rooms/none/chat?user=Ada")).recv(20)
        assert serve.seen(r"web \| the chat is open")


def test_fastapi_the_same_project_without_a_line_of_zygo(place: Place) -> None:
    with place.serve("chat/main.py", cwd=APPLICATIONS / "fastapi") as serve:
        assert serve.get("app", path="/rooms").json() == {"rooms": []}


def test_starlette_sessions_events_uploads_and_a_websocket(place: Place) -> None:
    with served(place, "starlette") as serve, client_of(serve) as client:
        answers = [client.get("/visits").json() for _ in range(3)]
        assert answers == [{"visits": 1}, {"visits": 2}, {"visits": 3}], "the session's cookie comes back"
        mounted = client.get("/", follow_redirects=True)
        assert mounted.json() == {
            "path": "/admin/users/all",
            "root_path": "/admin",
            "url": f"{serve.url('web')}/admin/users/all",
        }
        body = [bytes([number]) * 1_000_000 for number in range(40)]
        whole = hashlib.sha256(b"".join(body)).hexdigest()
        assert client.post("/upload", content=iter(body)).json() == {"size": 40_000_000, "sha256": whole}
        with client.stream("GET", "/events", headers={"Accept-Encoding": "identity"}) as events:
            lines = events.iter_lines()
            assert [next(lines) for _ in range(3)] == ["data: 1", "", "data: 2"], (
                "each comes when it is made, without an end"
            )
        serve.wait_for("web . end of the events")
        with connect(socket_url(serve, "/echo"), subprotocols=["whisper", "shout"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "shout"
            socket.send("tea")
            assert socket.recv(20) == "TEA"
            socket.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "you said so")


def test_flask_templates_sessions_and_files(place: Place) -> None:
    with served(place, "flask") as serve, client_of(serve) as client:
        home = client.get("/")
        assert home.headers["location"] == f"{serve.url('web')}/notes/", "URLs are those that callers use"
        added = client.post("/notes/", data={"text": "<tea>"}, follow_redirects=True)
        assert "<li>&lt;tea&gt;</li>" in added.text
        assert [client.get("/visits").json()["visits"] for _ in range(2)] == [1, 2]
        big = b"x" * 20_000_000
        where = client.post("/files", files={"file": ("big.bin", big)}).json()["file"]
        assert client.get(where).content == big
        part = client.get(where, headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, b"x" * 10)
        with client.stream("GET", "/slowly") as slowly:
            assert list(slowly.iter_lines()) == ["line 0", "line 1", "line 2"]
        assert client.get("/broken").status_code == 500
        serve.wait_for("RuntimeError: this one is broken", anywhere=True)


@pytest.mark.parametrize("kind", ["url", "hostname_url"])
def test_django_admin_in_a_browser(place: Place, kind: str) -> None:
    with served(place, "django") as django, browser_page() as page:
        url = getattr(django, kind)("web") or django.url("web")
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{url}/admin/")
        page.fill("#id_username", "admin")
        page.fill("#id_password", "wrong")
        page.click("input[type=submit]")
        assert "correct username and password" in page.inner_text(".errornote")
        page.fill("#id_password", "admin")
        page.click("input[type=submit]")
        page.click("a[href='/admin/books/book/add/']")
        page.fill("#id_title", f"Rayuela by {kind}")
        page.click("input[name=_save]")
        assert "added successfully" in page.inner_text(".messagelist")
        header = page.eval_on_selector("#header", "element => getComputedStyle(element).backgroundColor")
        assert header not in ("", "rgba(0, 0, 0, 0)"), "the static files are there"
        assert not failed
        assert f"Rayuela by {kind}" in django.get("web").json()["books"]


def test_django_by_its_manage_py(place: Place) -> None:
    with place.serve(APPLICATIONS / "django" / "manage.py") as serve:
        assert "Django administration" in serve.get("app", path="/admin/login/").text
        assert serve.get("app", path="/static/admin/css/base.css").headers["content-type"].startswith("text/css")


def test_fasthtml_fragments_and_its_websocket(place: Place) -> None:
    with served(place, "fasthtml") as serve, client_of(serve) as client:
        assert 'id="todo-1"' in client.get("/").text
        assert client.delete("/1", headers={"HX-Request": "true"}).status_code == 200
        assert 'id="todo-1"' not in client.get("/").text
        with connect(socket_url(serve, "/ws")) as socket:
            socket.send(json.dumps({"title": "tea", "HEADERS": {}}))
            assert "<li>TEA</li>" in str(socket.recv(20))


def test_litestar_types_events_and_a_listener(place: Place) -> None:
    with served(place, "litestar") as serve, client_of(serve) as client:
        assert client.get("/books").json() == [{"title": "Ficciones", "pages": 174}]
        serve.wait_for("a new book: Ficciones", anywhere=True)
        assert not serve.seen("cannot be forked"), "the thread of its logs is no hindrance"
        assert client.get("/where").json()["url"] == f"{serve.url('web')}/where"
        assert "/books" in client.get("/schema/openapi.json").json()["paths"]
        assert [line for line in client.get("/events").text.splitlines() if line] == ["data: one", "data: two"]
        with connect(socket_url(serve, "/echo")) as socket:
            socket.send('{"a": "tea"}')
            assert json.loads(socket.recv(20)) == {"a": "TEA"}


def test_quart_uploads_background_and_a_websocket(place: Place) -> None:
    with served(place, "quart") as serve, client_of(serve) as client:
        assert client.post("/upload", content=b"x" * 30_000_000).json() == {"size": 30_000_000}
        assert client.get("/events").text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert client.post("/later").status_code == 202
        serve.wait_for("web . done later")
        with connect(socket_url(serve, "/echo")) as socket:
            socket.send("tea")
            assert socket.recv(20) == "TEA"


def test_files_by_http_server(place: Place) -> None:
    with served(place, "files") as serve, client_of(serve) as client:
        assert (
            client.get("/hello.txt", headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}).status_code == 304
        )
        assert client.head("/hello.txt").headers["content-length"] == "6"
        assert client.get("/nothing").status_code == 404


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed (Debian package nodejs)")
def test_node_uploads_and_a_websocket(place: Place) -> None:
    with served(place, "node") as serve, client_of(serve) as client:
        assert client.post("/upload", content=b"x" * 30_000_000).json() == {"size": 30_000_000}
        with connect(socket_url(serve, "/"), compression=None) as socket:
            socket.send("tea")
            assert socket.recv(20) == "tea"
