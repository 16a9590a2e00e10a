"""applications: whole applications from PyPI (examples/applications), from no container to the first byte of an answer.

Beside it, in the same run and with the same versions: what the application's own server takes from a fresh process.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks import client, processes
from benchmarks.platform import Platform, wait_for
from benchmarks.results import Comparison, Figure, Result, per

if TYPE_CHECKING:
    from benchmarks.plan import Plan
    from benchmarks.platform import App

EXAMPLES = Path(__file__).parents[1] / "examples" / "applications"

OWN_SECONDS = 120.0
"""For a server by itself to answer; the slowest takes ten on a quiet machine."""

COMPILE_SECONDS = 600.0
"""For the byte code of a new image: some have thousands of files, and it is made with low priority."""

_UVICORN = "python -m uvicorn {app} --port {port} --no-access-log --loop uvloop --http httptools"


@dataclass(frozen=True)
class Application:
    """One of the examples.

    `app` is its zygo app's name, `path` what is asked for first, `own` the command of its own server with the application's
    folder as working directory, `packages` what that server needs beyond what is in the image, `env` its variables.
    """

    name: str
    app: str
    path: str
    own: str
    packages: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def _asgi(name: str, app: str, path: str, module: str) -> Application:
    return Application(name, app, path, _UVICORN.replace("{app}", module), ("uvicorn[standard]",))


_GUNICORN = "python -m gunicorn {app} --bind 127.0.0.1:{port} --threads 20"
_JUPYTER = "python -m jupyterlab --no-browser --port={port} --ServerApp.port_retries=0 --allow-root"
_STREAMLIT = "python -m streamlit run page.py --server.port={port} --server.headless=true --server.fileWatcherType=none"

APPLICATIONS = (
    _asgi("fastapi", "fastapi-chat", "/rooms", "chat.main:app"),
    _asgi("starlette", "starlette-site", "/hello/Ada", "main:app"),
    _asgi("litestar", "litestar-books", "/books", "main:app"),
    _asgi("fasthtml", "fasthtml-todo", "/", "main:app"),
    Application("quart", "quart-site", "/", "python -m hypercorn main:app --bind 127.0.0.1:{port}"),
    Application("flask", "flask-notes", "/notes/", _GUNICORN.replace("{app}", "notes:create_app()"), ("gunicorn",)),
    Application(
        "django", "django-bookshop", "/admin/login/", _GUNICORN.replace("{app}", "bookshop.wsgi"), ("gunicorn",)
    ),
    _asgi("mcp", "mcp-tools", "/healthz", "main:site"),
    _asgi("openai", "openai-parrot", "/v1/models", "main:app"),
    Application("datasette", "datasette-books", "/-/versions.json", "python -m datasette serve --memory --port {port}"),
    Application("gradio", "gradio-demo", "/config", "python main.py", env=(("GRADIO_SERVER_PORT", "{port}"),)),
    Application("files", "files", "/hello.txt", "python -m http.server {port} --bind 127.0.0.1 --directory public"),
    Application("node", "node", "/hello?name=Ada", "node server.mjs", env=(("PORT", "{port}"),)),
    Application("streamlit", "streamlit-page", "/_stcore/health", _STREAMLIT),
    Application("jupyter", "jupyter-lab", "/api/status?token=own", _JUPYTER, env=(("JUPYTER_TOKEN", "own"),)),
)


def chosen(only: tuple[str, ...]) -> list[Application]:
    """Those with these names, all without any; Node's only where there is node. Raises ValueError for a name that is none."""
    known = [application.name for application in APPLICATIONS]
    for name in only:
        if name not in known:
            raise ValueError(f"no application is called {name!r}; there are {', '.join(known)}")
    found = [application for application in APPLICATIONS if not only or application.name in only]
    return [application for application in found if application.name != "node" or shutil.which("node")]


def run(plan: Plan) -> Result:
    """Each application in turn, on a zygo server of its own without spares; its own server after it."""
    result = Result("applications", "whole applications, from no container to the first byte")
    result.settings = {
        "zygo": "zygo serve, sandbox on, ZYGO_SPARES=0, its containers killed before each request",
        "own": "from exec until its first answer with status 200, asked every 2 ms; first start left out; no sandbox",
    }
    for application in chosen(plan.only):
        result.figures += (figures := _measure(application, plan.application_starts))
        zygo, own = figures[-2:]
        what = f"{application.name}: own server / zygo, p50"
        result.comparisons.append(Comparison(what, own.p50 / zygo.p50, "x", "higher"))
        print(f"  {application.name}: zygo {zygo.p50:.1f} ms, own server {own.p50:.0f} ms", file=sys.stderr, flush=True)
    return result


def _measure(application: Application, starts: int) -> list[Figure]:
    name = application.name
    with Platform(spares="0") as platform:
        ignored = shutil.ignore_patterns("__pycache__", "instance", "*.sqlite3", ".sesskey")
        folder = Path(shutil.copytree(EXAMPLES / name, platform.sources / name, ignore=ignored))
        began = time.perf_counter()
        with platform.serve(folder / "serve.py", name=application.app) as app:
            served = Figure(f"{name}: image and first load", "s", (time.perf_counter() - began,))
            wait_for("the byte code of its image", lambda: not _compiles(platform.folder), COMPILE_SECONDS)
            zygo = _zygo(app, application, starts)
        own = _own(application, folder, _environment(platform, application), starts)
    return [served, zygo, own]


def _compiles(folder: Path) -> bool:
    """Whether the byte code of an image is still being made, in the background."""
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return any("compileall" in command and any(str(folder) in part for part in command) for command in commands)


def _zygo(app: App, application: Application, starts: int) -> Figure:
    samples, failed = [], 0
    path = application.path.replace("token=own", "token=choose-one")
    for _ in range(starts):
        app.end_containers()
        answer = app.get(path)
        if answer.status == 200:
            samples.append(answer.seconds)
        else:
            failed += 1
    return Figure(f"{application.name}: zygo", "ms", per(samples, 1e3), failed)


def _environment(platform: Platform, application: Application) -> dict[str, str]:
    """Variables for its own server, whose `python` has what the image has, in the same versions, and the server."""
    from uv import find_uv_bin

    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ZYGO_", "PYTHON"))}
    python = next(iter(platform.folder.glob("d/images/*/venv/bin/python")), None)
    if python is None:
        return {**variables, "PATH": os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])}
    environment = platform.folder / "own"
    own = str(environment / "bin" / "python")

    def uv(*arguments: str) -> str:
        command = [find_uv_bin(), *arguments]
        done = subprocess.run(command, env=platform.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return done.stdout

    held = [line for line in uv("pip", "freeze", "--python", str(python)).splitlines() if "==" in line]
    uv("venv", "--quiet", "--python", str(python.resolve()), str(environment))
    if packages := [*held, *application.packages]:
        uv("pip", "install", "--quiet", "--python", own, *packages)
    return {**variables, "PATH": os.pathsep.join([str(environment / "bin"), variables["PATH"]])}


def _own(application: Application, folder: Path, environment: dict[str, str], starts: int) -> Figure:
    samples = [_own_start(application, folder, environment) for _ in range(starts + 1)]
    # The first one compiles the modules of a new environment to byte code, which happens once and not at every start.
    return Figure(f"{application.name}: its own server", "ms", per(samples[1:], 1e3))


def _own_start(application: Application, folder: Path, environment: dict[str, str]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    variables = {name: value.format(port=port) for name, value in application.env}
    words = [word.format(port=port) for word in application.own.split()]
    command = [str(shutil.which(words[0], path=environment["PATH"])), *words[1:]]
    began = time.perf_counter()
    child = processes.Child(
        command, cwd=folder, output=folder.parent / "own.log", environment={**environment, **variables}
    )
    try:
        return float(
            wait_for(
                f"{application.name}'s own server",
                lambda: _answers(port, application.path) and time.perf_counter() - began,
                OWN_SECONDS,
                lambda: child.said()[-2000:] if child.process.poll() is not None else "",
            )
        )
    finally:
        child.end(signal.SIGTERM)


def _answers(port: int, path: str) -> bool:
    try:
        return client.get(port, path).status == 200
    except (OSError, ValueError):
        return False
