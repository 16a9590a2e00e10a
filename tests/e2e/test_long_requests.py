"""ZYGO_WEB_RESPONSE_WAIT: requests that take longer, as real clients follow them, and what a stop of the server does."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
import requests

from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place, Serve

PROGRAM = '''
import asyncio

import zygo

app = zygo.App("long", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))

PAGE = """<form method="post" action="/work?wait=60"><input name="what" value="a report"></form>
<script>document.forms[0].submit()</script>"""


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, Response

    api = FastAPI()
    go = asyncio.Event()
    begun = []

    @api.get("/", response_class=HTMLResponse)
    def page():
        return PAGE

    @api.post("/work")
    async def work(request: Request, wait: int):
        body = (await request.body()).decode()
        begun.append(body)
        await go.wait()
        go.clear()
        return Response(f"done with {body}", 201, {"X-Own": "yes"})

    @api.get("/begun")
    def seen():
        return begun

    @api.get("/go")
    async def release():
        go.set()

    return api
'''
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@pytest.fixture
def serve(fresh_place: Place, write: Callable[..., Path]) -> Iterator[Serve]:
    fresh_place.environment["ZYGO_WEB_RESPONSE_WAIT"] = "0.3s"
    with fresh_place.serve(write(PROGRAM)) as running:
        yield running


def release(serve: Serve, body: str) -> None:
    """Once the work with `body` has met at least one 303, let it end."""

    def begun() -> list[str]:
        found: list[str] = httpx.get(serve.url("web") + "/begun", trust_env=False, timeout=30).json()
        return found

    until(lambda: body in begun(), 60, "the work")
    # The second request is answered 303 after its first one was: both had the same wait.
    with httpx.Client(trust_env=False, timeout=30) as client:
        assert client.post(serve.url("web") + "/work?wait=1", content=b"the clock").status_code == 303
        assert client.get(serve.url("web") + "/go").status_code == 200


def test_as_curl_requests_and_a_browser_follow(serve: Serve, tmp_path: Path) -> None:
    url = serve.url("web")

    def with_curl(*options: str) -> str:
        command = [
            "curl",
            "-sSL",
            "--noproxy",
            "*",
            "--max-redirs",
            "500",
            "-w",
            " %{http_code} %{num_redirects}",
            *options,
        ]
        return subprocess.check_output([*command, f"{url}/work?wait=1"], text=True, timeout=60)

    def with_requests() -> str:
        with requests.Session() as session:
            session.trust_env, session.max_redirects = False, 500
            answer = session.post(f"{url}/work?wait=2", data=b"with requests", timeout=60)
            return f"{answer.text} {answer.status_code} {answer.headers['x-own']} {len(answer.history)}"

    for body, ask, said in (
        ("curl", lambda: with_curl("-d", "curl"), r"done with curl 201 [1-9]"),
        ("forced", lambda: with_curl("-X", "POST", "-d", "forced"), r"done with forced 201 [1-9]"),
        ("with requests", with_requests, r"done with with requests 201 yes [1-9]"),
        *([("what=a+report", lambda: _browse(url, tmp_path), r"done with what=a\+report")] if CHROMIUM else []),
    ):
        got: list[str] = []
        thread = threading.Thread(target=lambda ask=ask, got=got: got.append(ask()))
        thread.start()
        release(serve, body)
        thread.join(60)
        assert re.search(said, got[0]), (body, got)


def _browse(url: str, folder: Path) -> str:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", url]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=90, check=True
    ).stdout


def test_a_stop_in_the_middle_and_the_next_server(fresh_place: Place, write: Callable[..., Path]) -> None:
    fresh_place.environment["ZYGO_WEB_RESPONSE_WAIT"] = "0.3s"
    url = fresh_place.deploy(write(PROGRAM))["urls"]["web"]
    with httpx.Client(trust_env=False, timeout=60) as client:
        answer = client.post(f"{url}/work?wait=1", content=b"a stop")
        assert answer.status_code == 303
        place = str(answer.next_request.url) if answer.next_request is not None else ""
        waits = client.get(place)
        assert waits.status_code == 303
    fresh_place.stop_server()
    assert "the server was stopped" in fresh_place.zygo("app", "logs", "long", "--json").text
    with httpx.Client(trust_env=False, timeout=60) as client:
        gone = client.get(place)
        assert gone.status_code == 404
        assert "or the server was restarted. Send the request anew" in gone.text
    assert fresh_place.zygo("app", "stop", "long", "--yes").code == 0
