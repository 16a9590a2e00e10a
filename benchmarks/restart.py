"""restart: the server of a deployed app is killed and started again; from its process's start to the app's first answer.

Beside it, in turns: uvicorn with the same FastAPI function. The ratio is what tells two hours of a shared machine apart.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks import client, processes, programs
from benchmarks.platform import LOOK_SECONDS, PLAIN_OPTIONS, Platform, Uvicorn, wait_for
from benchmarks.results import Comparison, Figure, Result, per

if TYPE_CHECKING:
    from benchmarks.plan import Plan

STARTS = 9
QUICK_STARTS = 3

ANSWER_SECONDS = 60.0


def run(plan: Plan) -> Result:
    """Kills and starts, then the same with everything killed and the runtime directory wiped, as after a reboot."""
    count = STARTS if plan.starts > 100 else QUICK_STARTS
    result = Result("restart", "the first answer of a deployed app after a restart")
    result.settings = {
        "zygo": "python -m zygo.server.main after SIGKILL; one FastAPI endpoint is deployed; the request is there at once",
        "reboot": "every process killed, the runtime directory removed",
        "uvicorn": f"python -m uvicorn plain:web {PLAIN_OPTIONS} on an inherited socket, in turns with each of them",
    }
    listening: list[float] = []
    killed: list[float] = []
    rebooted: list[float] = []
    plain: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with Platform(port=str(port), idle_exit="0") as platform:
        # As any installed server has it: byte code is written once, and found at every start.
        platform.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        programs.plain(platform.sources)
        found = platform.zygo("deploy", str(programs.endpoint(platform.sources, "hello")))
        host = httpx.URL(found["functions"][0]["hostname_url"]).netloc.decode()
        # The server does it in the background after a build, and may be killed before it has ended.
        packages = Path(platform.image_python).parents[1] / "lib"
        subprocess.run([platform.image_python, "-m", "compileall", "-qq", str(packages)], check=False)
        server = _Server(platform, port, host)
        try:
            for number in range(-1, 2 * count):
                rebooting = number >= count
                server.kill(everything=rebooting)
                listens, answers = server.start()
                if number < 0:
                    continue  # the one that wrote the byte code
                listening.append(listens)
                (rebooted if rebooting else killed).append(answers)
                plain.append(_uvicorn(platform))
        finally:
            server.kill(everything=True)
    first = Figure("zygo, the server was killed", "ms", per(killed, 1e3))
    reboot = Figure("zygo, reboot", "ms", per(rebooted, 1e3))
    peer = Figure("uvicorn, from its start", "ms", per(plain, 1e3))
    result.figures = [first, reboot, Figure("zygo, until it listens", "ms", per(listening, 1e3)), peer]
    result.comparisons = [
        Comparison("first answer after a kill, p50", first.p50, "ms", floor=1000),
        Comparison("first answer after a reboot, p50", reboot.p50, "ms", floor=1000),
        Comparison("after a kill / uvicorn's start", first.p50 / peer.p50, "x"),
        Comparison("after a reboot / uvicorn's start", reboot.p50 / peer.p50, "x"),
    ]
    return result


class _Server:
    """The server of `platform`, first as a command has started it, then as `start` does."""

    def __init__(self, platform: Platform, port: int, host: str) -> None:
        self._platform, self._port, self._host = platform, port, host
        self._child: processes.Child | None = None
        self._pid = int(platform.status()["pid"])

    def kill(self, *, everything: bool) -> None:
        """SIGKILL to the server. What it leaves ends by itself; for a reboot that is killed too, and the sockets are gone."""
        below = processes.tree(self._pid)
        processes.kill_and_wait(below if everything else {self._pid} & below)
        if self._child is not None:
            self._child.end(signal.SIGKILL)
        wait_for("the end of the containers", lambda: not any(map(_runs, below)), ANSWER_SECONDS)
        if everything:
            shutil.rmtree(self._platform.folder / "r", ignore_errors=True)

    def start(self) -> tuple[float, float]:
        """Seconds until its port takes connections, and until the first answer."""
        folder = self._platform.folder
        began = time.monotonic()
        command = [sys.executable, "-P", "-m", "zygo.server.main", "--foreground"]
        child = self._child = processes.Child(
            command, cwd=folder, output=folder / "server.log", environment=self._platform.environment
        )
        self._pid = child.pid
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                break
            except ConnectionRefusedError:
                if child.process.poll() is not None or time.monotonic() - began > ANSWER_SECONDS:
                    raise RuntimeError(f"the server did not start: {child.said()[-2000:]}") from None
                time.sleep(LOOK_SECONDS)
        listens = time.monotonic() - began
        answer = client.get(self._port, "/?x=4", host=self._host)
        if answer.status != 200:
            raise RuntimeError(f"the first answer was {answer.status}: {answer.body!r}, {child.said()[-2000:]}")
        return listens, time.monotonic() - began


def _runs(pid: int) -> bool:
    return bool(processes.tree(pid))


def _uvicorn(platform: Platform) -> float:
    server = Uvicorn(platform.image_python, platform.sources)
    server.prepare()
    began = time.monotonic()
    server.start()
    try:
        server.get("/?x=4")
        return time.monotonic() - began
    finally:
        server.__exit__()
