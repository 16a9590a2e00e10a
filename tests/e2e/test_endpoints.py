"""Every kind of endpoint, as its caller sees it: one program with many of them."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Place, Serve

PROGRAM = '''
import asyncio
import datetime
import enum
import os
import uuid
from typing import Annotated, Optional

import zygo
from fastapi import (
    BackgroundTasks, Cookie, Depends, FastAPI, File, Form, Header, HTTPException, Query, Request, Response, UploadFile,
    WebSocket,
)
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

image = zygo.Image.debian_slim().pip_install("fastapi[standard]")
app = zygo.App("kinds", image=image)


class Colour(str, enum.Enum):
    red = "red"
    blue = "blue"


class Item(BaseModel):
    name: str
    quantity: int = Field(default=1, ge=1)


class Order(BaseModel):
    items: list[Item]
    note: Optional[str] = None


class Receipt(BaseModel):
    total: int


@app.function()
@zygo.fastapi_endpoint()
def hello():
    return "Hello world!"


@app.function()
@zygo.fastapi_endpoint()
async def hello_async():
    await asyncio.sleep(0)
    return {"async": True}


@app.function()
@zygo.fastapi_endpoint()
def query(
    number: int,
    ratio: float = 0.5,
    flag: bool = False,
    name: Optional[str] = None,
    colour: Colour = Colour.red,
    day: Optional[datetime.date] = None,
    key: Optional[uuid.UUID] = None,
    tags: Annotated[list[str], Query()] = [],
    limit: Annotated[int, Query(le=10)] = 3,
):
    return {"number": number, "ratio": ratio, "flag": flag, "name": name, "colour": colour, "day": day, "key": key,
            "tags": tags, "limit": limit}


@app.function()
@zygo.fastapi_endpoint(method="POST")
def any_json(item: dict):
    return {"square": item["x"] ** 2}


@app.function()
@zygo.fastapi_endpoint(method="POST")
def order(order: Order, express: bool = False) -> Receipt:
    # The annotation filters: what is not of a Receipt does not leave.
    return {"total": sum(i.quantity for i in order.items) + 100 * express, "internal": "secret"}


@app.function()
@zygo.fastapi_endpoint()
def bad_receipt() -> Receipt:
    return {"sum": 3}


@app.function()
@zygo.fastapi_endpoint(method="POST")
def form(name: Annotated[str, Form()], age: Annotated[int, Form()] = 7):
    return {"name": name, "age": age}


@app.function()
@zygo.fastapi_endpoint(method="POST")
async def upload(file: UploadFile, more: Annotated[list[UploadFile], File()] = [], note: Annotated[str, Form()] = ""):
    content = await file.read()
    return {"name": file.filename, "type": file.content_type, "size": len(content), "note": note,
            "more": [(await f.read()).decode() for f in more]}


@app.function()
@zygo.fastapi_endpoint(method="POST")
async def counted(request: Request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return size


@app.function()
@zygo.fastapi_endpoint(method="POST")
async def echo(request: Request):
    body = await request.body()
    return {"method": request.method, "path": request.url.path, "query": request.url.query, "client": request.client,
            "headers": dict(request.headers), "body": body.decode(), "url": str(request.url)}


def who(authorization: Annotated[Optional[str], Header()] = None) -> str:
    if not authorization:
        raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})
    yield authorization.removeprefix("Bearer ")
    print("dependency closed")


@app.function()
@zygo.fastapi_endpoint()
def depends(user: Annotated[str, Depends(who)]):
    return {"user": user}


@app.function()
@zygo.fastapi_endpoint()
def html(name: str = "you"):
    return HTMLResponse(f"<h1>Hello, {name}!</h1>")


@app.function()
@zygo.fastapi_endpoint()
def stream(request: Request):
    async def frames():
        for i in range(3):
            yield f"data: {i}\\n\\n"
            print(f"sent {i}")
            if i < 2:
                # Goes on when the client has shown, by a second request, that it has this one.
                await asyncio.wait_for(wait_for_file(f"/tmp/go{i}"), 20)

    async def wait_for_file(path):
        while not os.path.exists(path):
            await asyncio.sleep(0.01)

    async def starter():
        async for frame in frames():
            yield frame
            open(f"/tmp/go{frame[6]}", "w").close()

    return StreamingResponse(starter(), media_type="text/event-stream")


@app.function()
@zygo.fastapi_endpoint()
def headers(response: Response, x_token: Annotated[str, Header()], sid: Annotated[Optional[str], Cookie()] = None):
    response.headers["X-Answer"] = x_token[::-1]
    response.set_cookie("seen", "yes")
    response.status_code = 202
    return {"sid": sid}


@app.function()
@zygo.fastapi_endpoint()
def status(code: int):
    if code == 418:
        raise HTTPException(418, {"short": "and stout"})
    if code == 307:
        return RedirectResponse("/elsewhere")
    if code == 204:
        return Response(status_code=204)
    return JSONResponse({"code": code}, status_code=code)


@app.function()
@zygo.fastapi_endpoint(method="POST")
def background(tasks: BackgroundTasks, word: str):
    tasks.add_task(print, "in the background:", word)
    return "accepted"


@app.function()
@zygo.fastapi_endpoint(path="/items/{id}/parts/{part}")
def part(id: int, part: str, q: str = ""):
    return {"id": id, "part": part, "q": q}


@app.function()
@zygo.fastapi_endpoint(path="/files/{name:path}", method="PUT")
async def put_file(name: str, request: Request):
    return {"name": name, "size": len(await request.body())}


@app.function()
@zygo.fastapi_endpoint(method="DELETE")
def delete(id: int):
    return {"deleted": id}


@app.function()
@zygo.fastapi_endpoint(docs=True)
def documented(number: int, colour: Colour = Colour.red) -> Receipt:
    """Adds up."""
    return Receipt(total=number)


@app.function(name="renamed-one")
@zygo.fastapi_endpoint(label="my-label")
def original():
    return os.environ.get("HOSTNAME", "")


started = []


@app.function()
@zygo.concurrent(max_inputs=20)
@zygo.asgi_app()
def whole():
    import contextlib

    @contextlib.asynccontextmanager
    async def lifespan(app):
        started.append("lifespan")
        print("lifespan begins")
        yield {"pool": "of connections"}
        print("lifespan ends")

    web = FastAPI(lifespan=lifespan)
    arrived, all_here = [], asyncio.Event()

    @web.get("/")
    def index(request: Request):
        return {"started": started, "state": request.state.pool}

    @web.get("/meet/{number}")
    async def meet(number: int):
        arrived.append(number)
        if len(arrived) == 5:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 20)
        return os.getpid()

    @web.websocket("/ws/{room}")
    async def ws(socket: WebSocket, room: str):
        await socket.accept(subprotocol=(socket.headers.get("sec-websocket-protocol") or "").split(",")[0] or None)
        async for text in socket.iter_text():
            if text == "bye":
                await socket.close(4001, "so long")
                return
            await socket.send_text(f"{room}: {text}")

    return web


@app.function()
@zygo.asgi_app()
def bare():
    async def application(scope, receive, send):
        assert scope["type"] == "http", "no lifespan here"
        while True:
            message = await receive()
            if not message.get("more_body"):
                break
        body = f"{scope['method']} {scope['path']}".encode()
        await send({"type": "http.response.start", "status": 203, "headers": [(b"x-raw", b"1")]})
        await send({"type": "http.response.body", "body": body})

    return application
'''


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("kinds") / "kinds.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as running:
        yield running
        assert running.stop() == 0
    shared_place.settle()


def test_plain_and_async_functions(serve: Serve) -> None:
    answer = serve.get("hello")
    assert (answer.status_code, answer.text) == (200, '"Hello world!"')
    assert answer.headers["content-type"] == "application/json"
    assert serve.get("hello_async").json() == {"async": True}


def test_query_parameters_by_type(serve: Serve) -> None:
    key = "12345678-1234-5678-1234-567812345678"
    given = {"number": "6", "ratio": "1.5", "flag": "yes", "name": "Ada & Bob", "colour": "blue", "day": "2026-01-31"}
    answer = requests.get(serve.url("query"), params={**given, "key": key, "tags": ["a", "b"]}, timeout=30)
    assert answer.json() == {
        **{"number": 6, "ratio": 1.5, "flag": True, "name": "Ada & Bob", "colour": "blue", "day": "2026-01-31"},
        **{"key": key, "tags": ["a", "b"], "limit": 3},
    }
    assert serve.get("query", params={"number": 1}).json()["colour"] == "red"


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({}, "number"),
        ({"number": "x"}, "number"),
        ({"number": 1, "colour": "green"}, "colour"),
        ({"number": 1, "day": "tomorrow"}, "day"),
        ({"number": 1, "limit": 11}, "limit"),
    ],
)
def test_a_wrong_query_is_fastapis_422(serve: Serve, params: dict[str, Any], where: str) -> None:
    answer = serve.get("query", params=params)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", where]


def test_json_bodies(serve: Serve) -> None:
    assert serve.post("any_json", json={"x": 42}).json() == {"square": 1764}
    curl = ["curl", "-s", "-X", "POST", "-H", "Content-Type: application/json", "--data-binary", '{"x": 42}']
    assert json.loads(subprocess.check_output([*curl, serve.url("any_json")])) == {"square": 1764}
    assert serve.post("any_json", content=b"[1]").status_code == 422
    assert serve.post("any_json", content=b"{", headers={"content-type": "application/json"}).status_code == 422


def test_pydantic_models_validate_and_the_return_annotation_filters(serve: Serve) -> None:
    body = {"items": [{"name": "nut", "quantity": 3}, {"name": "bolt"}]}
    answer = serve.post("order", json=body, params={"express": "true"})
    assert answer.json() == {"total": 104}
    missing = serve.post("order", json={"items": [{"quantity": 1}]})
    assert missing.status_code == 422
    assert missing.json()["detail"][0]["loc"] == ["body", "items", 0, "name"]
    assert missing.json()["detail"][0]["type"] == "missing"
    low = serve.post("order", json={"items": [{"name": "nut", "quantity": 0}]})
    assert low.json()["detail"][0]["type"] == "greater_than_equal"


def test_an_answer_that_is_not_what_was_announced_is_500_with_its_reason(serve: Serve) -> None:
    answer = serve.get("bad_receipt")
    assert answer.status_code == 500
    serve.wait_for(r"bad_receipt +\|.*ResponseValidationError|ResponseValidationError")


def test_forms_and_uploads(serve: Serve) -> None:
    assert serve.post("form", data={"name": "Ada", "age": "36"}).json() == {"name": "Ada", "age": 36}
    assert serve.post("form", data={}).json()["detail"][0]["loc"] == ["body", "name"]
    big = b"x" * 3_000_000  # more than Starlette keeps in memory
    files = [
        ("file", ("photo.png", big, "image/png")),
        ("more", ("a.txt", b"first", "text/plain")),
        ("more", ("b.txt", b"second", "text/plain")),
    ]
    answer = requests.post(serve.url("upload"), files=files, data={"note": "two"}, timeout=30)
    assert answer.json() == {
        **{"name": "photo.png", "type": "image/png", "size": 3_000_000, "note": "two"},
        "more": ["first", "second"],
    }


def test_a_large_body_that_meets_no_container_yet_arrives_whole(serve: Serve) -> None:
    answer = serve.post("counted", content=b"x" * 3_000_000)
    assert answer.headers["server-timing"].startswith("start;desc=cold")
    assert answer.json() == 3_000_000

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"y" * 40_000

    assert serve.post("counted", content=chunks()).json() == 4_000_000


def test_the_request_itself(serve: Serve) -> None:
    url = serve.url("echo")
    answer = serve.post("echo", path="/?a=1&a=2&b=%2F", content="raw \N{SNOWMAN}", headers={"X-Mine": "m"}).json()
    assert answer["method"] == "POST"
    assert answer["query"] == "a=1&a=2&b=%2F"
    assert answer["body"] == "raw \N{SNOWMAN}"
    assert answer["headers"]["x-mine"] == "m"
    assert answer["client"][0] == "127.0.0.1"
    assert answer["url"].startswith(url)


def test_dependencies(serve: Serve) -> None:
    refused = serve.get("depends")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    serve.skip()
    assert serve.get("depends", headers={"Authorization": "Bearer ada"}).json() == {"user": "ada"}
    serve.wait_for("dependency closed")


def test_html(serve: Serve) -> None:
    answer = serve.get("html", params={"name": "Ada"})
    assert answer.text == "<h1>Hello, Ada!</h1>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_stream_arrives_piece_by_piece(serve: Serve) -> None:
    with requests.get(serve.url("stream"), stream=True, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert list(answer.iter_lines(chunk_size=1)) == [b"data: 0", b"", b"data: 1", b"", b"data: 2", b""]


def test_headers_cookies_and_status(serve: Serve) -> None:
    answer = serve.get("headers", headers={"X-Token": "abc", "Cookie": "sid=7"})
    assert answer.status_code == 202
    assert answer.headers["x-answer"] == "cba"
    assert answer.cookies["seen"] == "yes"
    assert answer.json() == {"sid": "7"}
    assert serve.get("headers").status_code == 422


@pytest.mark.parametrize("code", [200, 201, 204, 400, 409, 418, 307, 503])
def test_status_codes_are_the_functions_own(serve: Serve, code: int) -> None:
    answer = serve.get("status", params={"code": code})
    assert answer.status_code == code
    if code == 418:
        assert answer.json() == {"detail": {"short": "and stout"}}
    elif code == 204:
        assert answer.content == b""
    elif code == 307:
        assert answer.headers["location"] == "/elsewhere"
    else:
        assert answer.json() == {"code": code}


def test_background_tasks_run_after_the_answer(serve: Serve) -> None:
    serve.skip()
    assert serve.post("background", params={"word": "later"}).json() == "accepted"
    serve.wait_for(r"background +\| in the background: later")


def test_paths_with_parameters(serve: Serve) -> None:
    assert serve.get("part", path="/items/7/parts/lid%20b?q=x").json() == {"id": 7, "part": "lid b", "q": "x"}
    assert serve.get("part", path="/items/seven/parts/lid").json()["detail"][0]["loc"] == ["path", "id"]
    assert serve.get("part", path="/").status_code == 404
    answer = serve.request("PUT", "put_file", path="/files/a/b/c.bin", content=b"12345")
    assert answer.json() == {"name": "a/b/c.bin", "size": 5}


def test_other_methods_and_paths_are_refused(serve: Serve) -> None:
    assert serve.request("DELETE", "delete", params={"id": 3}).json() == {"deleted": 3}
    wrong = serve.get("delete", params={"id": 3})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE")
    assert serve.post("hello").status_code == 405
    nowhere = serve.get("hello", path="/nowhere")
    assert (nowhere.status_code, nowhere.json()) == (404, {"detail": "Not Found"})


def test_docs_only_where_asked_for(serve: Serve) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert serve.get("hello", path=path).status_code == 404
    assert "swagger-ui" in serve.get("documented", path="/docs").text
    assert "redoc" in serve.get("documented", path="/redoc").text
    schema = serve.get("documented", path="/openapi.json").json()
    operation = schema["paths"]["/"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["number", "colour"]
    assert operation["description"] == "Adds up."


def test_cors_is_open_as_browsers_ask(serve: Serve) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-token",
    }
    preflight = serve.request("OPTIONS", "any_json", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "x-token"
    answer = serve.post("any_json", json={"x": 2}, headers={"Origin": "https://shop.example", "Cookie": "a=b"})
    assert answer.headers["access-control-allow-origin"] in ("*", "https://shop.example")


def test_name_and_label(serve: Serve) -> None:
    assert serve.get("renamed-one").status_code == 200
    assert "//local--my-label-dev.localhost:" in serve.hostname_url("renamed-one")
    assert "//local--kinds-hello-dev.localhost:" in serve.hostname_url("hello")


def test_a_whole_application_with_its_lifespan(serve: Serve) -> None:
    assert serve.get("whole").json() == {"started": ["lifespan"], "state": "of connections"}
    assert serve.seen(r"whole +\| lifespan begins")
    assert serve.get("whole", path="/openapi.json").json()["info"]["title"] == "FastAPI"


def test_one_container_serves_many_requests_at_once_when_concurrent(serve: Serve) -> None:
    with ThreadPoolExecutor(5) as pool:
        pids = list(pool.map(lambda n: serve.get("whole", path=f"/meet/{n}").json(), range(5)))
    assert len(set(pids)) == 1


def test_websockets(serve: Serve) -> None:
    url = serve.url("whole").replace("http://", "ws://")
    with connect(f"{url}/ws/den", subprotocols=["chat"], open_timeout=30) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "chat"
        for text in ("hi", "\N{SNOWMAN}" * 10, "x" * 300_000):
            socket.send(text)
            assert socket.recv(30) == f"den: {text}"
        socket.send("bye")
        with pytest.raises(ConnectionClosedError):
            socket.recv(30)
    assert (socket.close_code, socket.close_reason) == (4001, "so long")


def test_an_application_without_framework_or_lifespan(serve: Serve) -> None:
    answer = serve.request("PATCH", "bare", path="/any/where", content=b"body")
    assert (answer.status_code, answer.text, answer.headers["x-raw"]) == (203, "PATCH /any/where", "1")


def test_threads_of_a_client_share_nothing(serve: Serve) -> None:
    """Many callers with a connection of their own each, at once: each gets its own answer."""
    wrong: list[int] = []

    def call(number: int) -> None:
        with requests.Session() as session:
            for i in range(5):
                x = number * 100 + i
                answer = session.get(serve.url("query"), params={"number": x}, timeout=60)
                if answer.status_code != 200 or answer.json()["number"] != x:
                    wrong.append(x)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
