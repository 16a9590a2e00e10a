"""docs/guides/faults.md, row by row: what breaks, what the caller gets, and that the next request is answered."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zygo.testing.harness import Place, Serve

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "faults.md"

PROGRAM = """
    import asyncio, ctypes, os, sys, time
    import zygo

    app = zygo.App("faults", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))
    endpoint = zygo.fastapi_endpoint

    @app.function()
    @endpoint()
    def fine():
        return "fine"

    @app.function()
    @endpoint()
    def raises(x: int = 0):
        return "fine" if x else 1 / x

    @app.function()
    @endpoint()
    def refuses():
        from fastapi import HTTPException
        raise HTTPException(418, "teapot")

    @app.function()
    @zygo.asgi_app()
    def bare():
        async def application(scope, receive, send):
            if scope["type"] == "http" and scope["path"] == "/fine":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"fine"})
                return
            raise ValueError("inside asgi")
        return application

    def stream(end):
        from fastapi.responses import StreamingResponse
        def pieces():
            yield b"first"
            time.sleep(0.1)
            end()
        return StreamingResponse(pieces())

    @app.function()
    @endpoint()
    def raises_late(late: bool = True):
        def end():
            raise ValueError("in the stream")
        return stream(end) if late else "fine"

    @app.function()
    @endpoint()
    def dies_late(late: bool = True):
        return stream(lambda: os._exit(1)) if late else "fine"

    @app.function()
    @zygo.asgi_app()
    def factory():
        return open("/no/such/file")

    @app.function()
    @zygo.asgi_app()
    def lifespan():
        from contextlib import asynccontextmanager
        from fastapi import FastAPI
        @asynccontextmanager
        async def life(_):
            raise RuntimeError("no database")
            yield
        return FastAPI(lifespan=life)

    @app.function(startup_timeout=1)
    @zygo.asgi_app()
    def slow_start():
        time.sleep(20)

    @app.function()
    @endpoint()
    def exits(status: int = 4):
        return os._exit(status) if status else "fine"

    @app.function()
    @endpoint()
    def crashes(x: int = 0):
        return "fine" if x else ctypes.string_at(0)

    @app.function(memory=(128, 256))
    @endpoint()
    def hog(pieces: int = 1000):
        held = [bytearray(b"x") * 10_000_000 for _ in range(pieces)]
        return "fine"

    @app.function()
    @endpoint()
    def multiplies(x: int = 0):
        import threading
        threading.stack_size(65536)
        go, held = threading.Event(), []
        try:
            while not x:
                held.append(threading.Thread(target=go.wait))
                held[-1].start()
        finally:
            go.set()
        return "fine"

    @app.function(timeout=1)
    @endpoint()
    def loops(x: int = 0):
        while not x:
            pass
        return "fine"

    @app.function(timeout=1)
    @endpoint()
    async def loops_async(x: int = 0):
        while not x:
            pass
        return "fine"

    @app.function(max_containers=1, timeout=1)
    @endpoint()
    def narrow(seconds: float = 0):
        time.sleep(seconds)
        return "fine"

    @app.function(max_containers=1)
    @endpoint()
    async def waits(seconds: float = 0):
        print("began", flush=True)
        await asyncio.sleep(seconds)
        return "fine"

    @app.function()
    @endpoint()
    def breaks(x: int = 0):
        return "fine" if x else breakpoint()

    @app.function()
    @endpoint()
    def asks(x: int = 0):
        return "fine" if x else input("name? ")
"""


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The program, served for all tests of this module."""
    import textwrap

    path = tmp_path_factory.mktemp("faults") / "faults.py"
    path.write_text(textwrap.dedent(PROGRAM))
    with shared_place.serve(path) as serving:
        yield serving
    shared_place.settle()


def row(start: str) -> list[str]:
    """The cells of the guide's row that begins with `start`."""
    for line in GUIDE.read_text().splitlines():
        if line.startswith(f"| {start}"):
            return [cell.strip() for cell in line.strip("|").split("|")]
    raise AssertionError(f"the guide has no row {start!r}")


# First, while no app of this module is on the shared server.
def broken(text: str) -> str:
    return f"import zygo\napp = zygo.App('broken')\n{text}\n@app.function()\n@zygo.fastapi_endpoint()\ndef f(): ..."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (broken("1 / 0"), r"broken.py, line 3: ZeroDivisionError"),
        (broken("def"), r"broken.py, line 3: SyntaxError"),
        (broken("import not_there"), r"module 'not_there' is missing on this machine"),
        (broken("if not zygo.is_local(): raise OSError('in the container')"), r"OSError: in the container"),
        (
            broken("app.image = zygo.Image.debian_slim().pip_install('no-such-zygo-package')"),
            r"no-such-zygo-package was not",
        ),
    ],
    ids=["fails", "does not parse", "imports nothing", "fails in the container", "no such package"],
)
def test_what_cannot_be_served_is_told(place: Place, write: Callable[..., Path], text: str, shown: str) -> None:
    path = write("", "broken.py")
    path.write_text(text)
    done = place.zygo("serve", str(path))
    assert done.code == 1
    assert re.search(shown, done.text), done.text


REFUSED = [
    ("exception in an endpoint", "raises", 500, ["Internal Server Error", "ZeroDivisionError", 'File "/root/'], "x=1"),
    ("`HTTPException`", "refuses", 418, ["teapot"], None),
    ("`HTTPException`", "raises?x=a", 422, ["int_parsing"], "x=1"),
    ("failure in an `asgi_app` factory", "factory", 502, ["could not be started", "FileNotFoundError"], None),
    ("failure in an `asgi_app` factory", "lifespan", 502, ["could not be started", "no database"], None),
    ("the container's start takes too long", "slow_start", 502, ["could not be started", "not ready in 1 s"], None),
    ("the process dies", "exits", 502, ["died while it served this request", "exit status 4"], "status=0"),
    ("the process dies", "crashes", 502, ["died while it served this request", "SIGSEGV"], "x=1"),
    ("more memory than the limit", "hog", 502, ["died while it served", "more than its 256 MiB"], "pieces=1"),
    ("a fork bomb", "multiplies", 500, ["can't start new thread"], "x=1"),
    ("longer than `timeout`", "loops", 504, ["did not finish within its timeout of 1 s"], "x=1"),
    ("longer than `timeout`", "loops_async", 504, ["did not finish within its timeout of 1 s"], "x=1"),
    ("`breakpoint()`", "breaks", 500, ["breakpoint() needs a terminal"], "x=1"),
    ("`input()`", "asks", 500, ["EOFError"], "x=1"),
]


@pytest.mark.parametrize(("start", "function", "status", "texts", "healthy"), REFUSED, ids=lambda v: str(v)[:24])
def test_what_the_caller_gets(
    serve: Serve, start: str, function: str, status: int, texts: list[str], healthy: str | None
) -> None:
    cells = row(start)
    assert re.search(re.sub("xx", r"\\d\\d", cells[1].replace(", ", "|")), str(status)), f"the guide says {cells[1]}"
    name, _, query = function.partition("?")
    answer = serve.get(name, params=httpx.QueryParams(query))
    assert answer.status_code == status, answer.text
    for text in texts:
        assert text in answer.text
    # No path of the host, and no frame of ours, is shown to a user.
    assert "/guest/" not in answer.text or name == "breaks"
    if healthy is not None:
        again = serve.get(name, params=httpx.QueryParams(healthy))
        assert (again.status_code, again.json()) == (200, "fine")
    assert serve.get("fine").json() == "fine"


def test_an_asgi_application_that_raises(serve: Serve) -> None:
    answer = serve.get("bare")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert serve.get("bare", path="/fine").text == "fine"
    serve.wait_for("ValueError: inside asgi")


@pytest.mark.parametrize("function", ["raises_late", "dies_late"])
def test_an_answer_that_has_begun_is_cut_off(serve: Serve, function: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        serve.get(function)
    assert serve.get(function, params={"late": "false"}).json() == "fine"


def test_no_container_becomes_free(serve: Serve) -> None:
    async def both() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            url = serve.url("narrow")
            first = asyncio.create_task(client.get(url, params={"seconds": 30}))
            await asyncio.to_thread(serve.place.status)
            return [await first, *await asyncio.gather(*(client.get(url, params={"seconds": 0.9}) for _ in range(4)))]

    answers = asyncio.run(both())
    assert answers[0].status_code == 504
    late = [answer for answer in answers[1:] if answer.status_code != 200]
    assert late
    assert all("no container became free within 1 s" in answer.text for answer in late)
    assert serve.get("narrow").json() == "fine"


def test_too_many_wait(fresh_place: Place, write: Callable[..., Path]) -> None:
    path = write(PROGRAM)
    with fresh_place.serve(path, env={"ZYGO_MAX_WAITING": "2"}) as serving:

        async def burst() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=30) as client:
                url = serving.url("waits")
                return list(await asyncio.gather(*(client.get(url, params={"seconds": 0.5}) for _ in range(8))))

        answers = asyncio.run(burst())
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert all(a.headers["Retry-After"] == "1" and "wait for this function already" in a.text for a in refused)
        assert all(answer.status_code == 200 for answer in answers if answer not in refused)


def test_clients_that_go_away(serve: Serve) -> None:
    host, port = serve.url("waits").removeprefix("http://").split(":")
    serve.skip()
    with socket.create_connection((host, int(port))) as served, socket.create_connection((host, int(port))) as waiting:
        served.sendall(b"GET /?seconds=3 HTTP/1.1\r\nHost: x\r\n\r\n")
        serve.wait_for(r"waits .*\| began")
        waiting.sendall(b"GET /?seconds=3 HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.shutdown(socket.SHUT_WR)
        serve.wait_for(r"499 .* the client left while the request waited")
    serve.wait_for(r"499 .* the client left before the answer was complete")
    assert serve.get("waits").json() == "fine"


def test_a_refusal_is_json_for_who_asks_for_it(serve: Serve) -> None:
    answer = serve.get("loops", headers={"Accept": "application/json"})
    said = json.loads(answer.text)["error"]
    assert said["status"] == 504
    assert said["request_id"] == answer.headers["X-Request-Id"]
    shown = re.search(r"^\{\"error\".*$", GUIDE.read_text(), re.MULTILINE)
    assert shown is not None
    assert json.loads(shown[0])["error"].keys() == said.keys()


def test_no_such_endpoint(serve: Serve, shared_place: Place) -> None:
    status = shared_place.status()
    assert status is not None
    answer = httpx.get(f"http://127.0.0.1:{status['gateway']['port']}/", headers={"Host": "nobody.localhost"})
    assert answer.status_code == 404
    assert "there is no endpoint at nobody.localhost" in answer.text
