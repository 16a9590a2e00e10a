"""WSGI applications: Flask and a bare one, with a thread for each request that a container gets at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place, Serve

PROGRAM = """
import os
import threading

import zygo

app = zygo.App("wsgi", image=zygo.Image.debian_slim().pip_install("flask"))
barrier = threading.Barrier(4, timeout=20)


@app.function()
@zygo.wsgi_app()
def flask():
    from flask import Flask, Response, request, session

    site = Flask(__name__)
    site.secret_key = "k"

    @site.get("/")
    def home():
        return "Hello Flask!"

    @site.post("/echo")
    def echo():
        return request.json

    @site.post("/upload")
    def upload():
        return {"size": len(request.files["file"].read()), "name": request.files["file"].filename}

    @site.get("/stream")
    def stream():
        return Response((f"{n}\\n" for n in range(1000)), mimetype="text/plain")

    @site.get("/environ/<path:rest>")
    def environ(rest):
        keys = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "SERVER_NAME", "wsgi.url_scheme")
        return {key: request.environ.get(key) for key in keys} | {"url": request.url, "rest": rest}

    @site.get("/fails")
    def fails():
        raise ValueError("no luck")

    return site


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=4)
@zygo.wsgi_app(label="together")
def together():
    def application(environ, start_response):
        barrier.wait()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [os.environ["ZYGO_CONTAINER_ID"].encode()]

    return application
"""


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("wsgi") / "wsgi.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as running:
        yield running
        assert running.stop() == 0
    shared_place.settle()


def test_flask(serve: Serve) -> None:
    assert serve.get("flask").text == "Hello Flask!"
    assert serve.post("flask", path="/echo", json={"a": 1}).json() == {"a": 1}
    assert serve.get("flask", path="/nope").status_code == 404
    assert serve.get("flask", path="/echo").status_code == 405
    upload = serve.post("flask", path="/upload", files={"file": ("a.bin", b"x" * 5_000_000)})
    assert upload.json() == {"size": 5_000_000, "name": "a.bin"}
    assert serve.get("flask", path="/stream").text.splitlines() == [str(n) for n in range(1000)]


def test_the_environ(serve: Serve) -> None:
    found = serve.get("flask", path="/environ/%C3%A4/b?c=d%20e").json()
    assert found["PATH_INFO"].encode("latin-1").decode() == "/environ/ä/b"
    assert (found["QUERY_STRING"], found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("c=d%20e", "127.0.0.1", "http")
    assert found["rest"] == "ä/b"
    assert found["url"].startswith(serve.url("flask"))


def test_an_exception_is_in_the_log_and_not_in_the_answer(serve: Serve) -> None:
    answer = serve.get("flask", path="/fails")
    assert answer.status_code == 500
    assert "no luck" not in answer.text
    serve.wait_for("ValueError: no luck", anywhere=True)


def test_requests_of_one_container_run_in_threads(serve: Serve) -> None:
    assert "together-dev.localhost" in serve.hostname_url("together")
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: serve.get("together"), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


def test_a_factory_that_returns_something_else(shared_place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("nowsgi")

        @app.function()
        @zygo.wsgi_app()
        def site():
            return "a site"
        """)
    with shared_place.serve(path) as running:
        answer = running.get("site")
        assert answer.status_code == 500 or answer.status_code == 502
        assert "returned str, which is not a WSGI application" in answer.text
