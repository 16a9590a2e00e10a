"""Functions called from other people's programs: a FastAPI and a Django application under their real servers, each with zygo
installed from the wheel in a clean virtual environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from e2e.test_install import run, wheel
from zygo.builder.uv import find_uv
from zygo.testing.harness import SECONDS, Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["wheel"]

PROGRAM = """
import zygo

app = zygo.App("backend")


@app.function()
def square(x: int):
    if x < 0:
        raise ValueError(f"{x} is negative")
    return x * x
"""

FASTAPI = """
import zygo
from fastapi import FastAPI, HTTPException

app = FastAPI()
square = zygo.Function.from_name("backend", "square")


@app.get("/async/{x}")
async def asynchronous(x: int):
    try:
        return {"answer": await square.remote.aio(x)}
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


@app.get("/sync/{x}")
def synchronous(x: int):
    return {"answer": list(square.map(range(x)))}
"""

DJANGO = """
import zygo
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="not one")
square = zygo.Function.from_name("backend", "square")


def answer(request, x):
    call = square.spawn(x)
    return JsonResponse({"answer": square.remote(x), "spawned": call.get(timeout=30)})


urlpatterns = [path("<int:x>", answer)]
application = get_wsgi_application()
"""


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with zygo from its wheel, and what web developers have besides."""
    venv = tmp_path_factory.mktemp("callers") / "venv"
    run([str(find_uv()), "venv", "--quiet", "--python", "/usr/bin/python3", str(venv)])
    interpreter = venv / "bin" / "python"
    run([str(find_uv()), "pip", "install", "--quiet", "--python", str(interpreter), str(wheel), "django", "gunicorn"])
    return interpreter


@pytest.fixture
def backend(place: Place, write: Callable[..., Path]) -> Iterator[Place]:
    """The deployed app that is called."""
    place.deploy(write(PROGRAM, "backend.py"))
    yield place
    place.zygo("app", "stop", "--yes", "backend")


@pytest.fixture
def server(backend: Place) -> Iterator[Callable[..., str]]:
    """Start a server with a command that has {port}; the URL it answers at. Ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], cwd: Path) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        line = [part.format(port=port) for part in command]
        environment = {**backend.environment, "PYTHONPATH": str(cwd)}
        started.append(subprocess.Popen(line, cwd=cwd, env=environment, start_new_session=True))
        until(lambda: _accepts(port), SECONDS, f"{command[0]} to listen")
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def test_from_fastapi_under_uvicorn(python: Path, server: Callable[..., str], write: Callable[..., Path]) -> None:
    path = write(FASTAPI, "front/main.py")
    url = server([str(python), "-m", "uvicorn", "main:app", "--port", "{port}", "--workers", "2"], path.parent)
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        assert [client.get(f"{url}/async/{x}").json()["answer"] for x in range(5)] == [0, 1, 4, 9, 16]
        assert client.get(f"{url}/sync/5").json()["answer"] == [0, 1, 4, 9, 16]
        refused = client.get(f"{url}/async/-1")
        assert (refused.status_code, refused.json()["detail"]) == (400, "-1 is negative")


def test_from_django_under_gunicorn(python: Path, server: Callable[..., str], write: Callable[..., Path]) -> None:
    """Workers are forked from a process that has imported zygo already."""
    path = write(DJANGO, "site_/front.py")
    gunicorn = str(python.parent / "gunicorn")
    command = [gunicorn, "--preload", "-w", "2", "--threads", "2", "-b", "127.0.0.1:{port}", "front:application"]
    url = server(command, path.parent)
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        for x in range(4):
            assert client.get(f"{url}/{x}").json() == {"answer": x * x, "spawned": x * x}


def test_a_client_loads_nothing_of_the_server(python: Path) -> None:
    heavy = "import zygo; zygo.Function.from_name('a', 'b'); import sys; print(sorted(sys.modules))"
    loaded = run([str(python), "-c", heavy])
    for name in ("zygo.server", "zygo.cli", "httpx", "pydantic", "sqlalchemy", "uvicorn", "typer", "asyncio"):
        assert f"'{name}'" not in loaded, name
