"""The two sides: a zygo server of its own with `zygo serve` on it, and uvicorn from the same image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import client, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_SECONDS = 180.0
"""For a first image: wheels may have to be fetched. A second start takes less than one."""

STATE_SECONDS = 15.0
"""For the server to notice what happened to a container."""

LOOK_SECONDS = 0.002
"""Between two looks at a state that has no event to wait on. Never inside a measured time on zygo's side."""

GUEST = "guest/main.py"
"""End of the program that the image's fork server runs; its forks share its command line."""

CONTAINER = 3
"""Generation of a container: image's fork server, revision's fork server, container."""

PLAIN_OPTIONS = "--no-access-log --loop uvloop --http httptools --workers 1"


def wait_for(what: str, test: Callable[[], Any], seconds: float, failed: Callable[[], str] = lambda: "") -> Any:
    """What `test` returns, as soon as that is true. Raises TimeoutError naming `what`, or RuntimeError
    with what `failed` says, when that is why it never will."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = test()
        if found:
            return found
        if reason := failed():
            raise RuntimeError(f"{what}: {reason}")
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"{what}: not in {seconds:g} s")


class Platform:
    """A zygo server with data and runtime directories of its own, in which one app at a time is served.

    Holds a temporary directory and processes until `close`. `settings` are ZYGO_ variables without the prefix.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zgb"))
        self.folder.chmod(0o711)  # root's sandboxes run under another uid, which must get to the data directory
        self.environment = {
            **os.environ,
            "ZYGO_DATA_DIR": str(self.folder / "d"),
            "ZYGO_RUNTIME_DIR": str(self.folder / "r"),
            "ZYGO_PORT": "0",
            "ZYGO_IDLE_EXIT": "60",  # should this process be killed, the server ends by itself
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or _uv_cache(),
            **{f"ZYGO_{name.upper()}": value for name, value in settings.items()},
        }
        self.sources = self.folder / "src"
        self.sources.mkdir()
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.folder / "r" / "control.sock")), base_url="http://zygo"
        )

    def close(self) -> None:
        """End the server and remove its directory. May be called twice."""
        pid = 0
        with contextlib.suppress(httpx.HTTPError):
            pid = self.status()["pid"]
            self._http.post("/v1/stop")
        self._http.close()
        if pid:
            wait_for("the server's end", lambda: not processes.tree(pid), processes.END_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """What `zygo server status --json` says."""
        return dict(self._http.get("/v1/status").json())

    @contextlib.contextmanager
    def serve(self, program: Path, *options: str, name: str = "") -> Iterator[App]:
        """`zygo serve PROGRAM` until the block ends; gives the app once it answers requests. `name`: if not the file's."""
        command = [sys.executable, "-m", "zygo.cli.main", "serve", str(program), *options]
        output = self.folder / f"{program.stem}.log"
        child = processes.Child(command, cwd=program.parent, output=output, environment=self.environment)
        try:
            wait_for(
                f"zygo serve {program.name}",
                lambda: "Serving..." in child.said(),
                START_SECONDS,
                lambda: child.said()[-2000:] if child.process.poll() is not None else "",
            )
            yield App(self, child, name or program.stem)
        finally:
            child.end()

    def zygo(self, *arguments: str) -> dict[str, Any]:
        """What a command prints as JSON. Raises RuntimeError with all it said when it fails."""
        command = [str(Path(sys.executable).with_name("zygo")), *arguments, "--json"]
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"zygo {' '.join(arguments)} failed: {done.stderr}")
        return dict(json.loads(done.stdout))

    @contextlib.contextmanager
    def relay(self, target: int) -> Iterator[str]:
        """`benchmarks.relay` before the port `target` until the block ends; gives its URL."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "benchmarks.relay", str(port), str(target)]
        output = self.folder / "relay.log"
        child = processes.Child(command, cwd=Path(__file__).parents[1], output=output)
        try:
            wait_for("the relay", lambda: _answers(port), 30.0, lambda: child.said() if child.process.poll() else "")
            yield f"http://127.0.0.1:{port}/"
        finally:
            child.end(signal.SIGKILL)

    @property
    def image_python(self) -> str:
        """The interpreter of the last image that was built, for the other side to run on the same versions."""
        images = sorted((self.folder / "d" / "images").glob("*/venv/bin/python"), key=lambda p: p.lstat().st_mtime)
        for path in reversed(images):
            if list(path.parent.parent.glob("lib/*/site-packages/uvicorn")):
                return str(path)
        raise RuntimeError("no image with uvicorn was built")


class App:
    """What `zygo serve` serves: one function, its port and its processes."""

    def __init__(self, platform: Platform, child: processes.Child, name: str) -> None:
        self.platform = platform
        self.child = child
        status = platform.status()
        self.server_pid = int(status["pid"])
        self.name = name
        url = httpx.URL(self._function()["url"])
        self.port = int(url.port or 0)
        self.host = f"{url.host}:{url.port}"
        self.url = f"http://127.0.0.1:{self.port}/"

    def processes(self) -> set[int]:
        """Everything below the server, itself included."""
        return processes.tree(self.server_pid)

    def containers(self) -> int:
        """How many containers take requests."""
        return int(self._function()["containers"])

    def container_processes(self) -> set[int]:
        """The containers' processes, a parked spare's included: forked from a fork server that was forked from one."""
        return {pid for pid in self.processes() if processes.generation(pid, GUEST) == CONTAINER}

    def end_containers(self, pids: set[int] | None = None) -> None:
        """Kill these containers' processes (None: all there are), and return once the server knows."""

        def gone() -> bool:
            # Again and again: a container that was starting may have come after the others were killed.
            processes.kill_and_wait(self.container_processes() if pids is None else pids)
            return self.containers() == 0

        wait_for("no container", gone, STATE_SECONDS)

    def get(self, path: str = "/") -> client.Answer:
        """One request on a fresh connection."""
        return client.get(self.port, path, host=self.host)

    def _function(self) -> dict[str, Any]:
        apps = {app["name"]: app for app in self.platform.status()["apps"]}
        return dict(apps[self.name]["functions"][0])


class Uvicorn:
    """Bare uvicorn on `plain:web`, started by `with`. It inherits a listening socket, so a request can be sent at once
    and is answered as soon as it is ready: nobody polls, and nothing is added to its start.

    `arguments` replaces PLAIN_OPTIONS; `inherit` False makes it bind by itself, as it mostly does.
    """

    def __init__(self, python: str, folder: Path, arguments: str = PLAIN_OPTIONS, *, inherit: bool = True) -> None:
        self.folder = folder
        self._python = python
        self._arguments = arguments.split()
        self._inherit = inherit
        self._listener: socket.socket | None = None
        self._child: processes.Child | None = None
        self.port = 0

    def __enter__(self) -> Uvicorn:
        self.prepare()
        self.start()
        wait_for("uvicorn", lambda: _answers(self.port), 60.0, self._failed)
        return self

    def __exit__(self, *error: object) -> None:
        if self._child is not None:
            self._child.end(signal.SIGINT)
        if self._listener is not None:
            self._listener.close()

    def prepare(self) -> None:
        """Make the socket."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        # uvicorn takes an inherited socket for a unix one and leaves this off, which would cost it 40 ms an answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = int(listener.getsockname()[1])
        if self._inherit:
            self._listener = listener
        else:
            listener.close()

    def start(self) -> None:
        """Start the process; a request may be sent at once when the socket is inherited."""
        command = [self._python, "-m", "uvicorn", "plain:web", *self._arguments]
        fds = []
        if self._listener is not None:
            command += ["--fd", str(self._listener.fileno())]
            fds.append(self._listener.fileno())
        else:
            command += ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        output = self.folder / "uvicorn.log"
        self._child = processes.Child(command, cwd=self.folder, output=output, environment=environment, pass_fds=fds)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str = "/") -> client.Answer:
        """One request on a fresh connection."""
        return client.get(self.port, path)

    def _failed(self) -> str:
        assert self._child is not None
        return self._child.said()[-2000:] if self._child.process.poll() is not None else ""


def _answers(port: int) -> bool:
    try:
        return client.get(port).status == 200
    except (OSError, ValueError):
        return False


def _uv_cache() -> str:
    """uv's own cache, shared by the runs: an image is built anew each time, its wheels are fetched once."""
    from uv import find_uv_bin

    done = subprocess.run([find_uv_bin(), "cache", "dir"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
