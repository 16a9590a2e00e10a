"""restart: the server of a deployed app is killed and started again; from its process's start to the app's first answer.

Beside it, in turns: uvicorn with the same FastAPI function. The ratio is what tells two hours of a shared machine apart.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
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
        children: list[processes.Child] = []
        try:
            for number in range(-1, 2 * count):
                rebooting = number >= count
                _kill(platform, children, everything=rebooting)
                child, listens, answers = _start(platform, port, host)
                children.append(child)
                if number < 0:
                    continue  # the one that wrote the byte code
                listening.append(listens)
                (rebooted if rebooting else killed).append(answers)
                plain.append(_uvicorn(platform))
        finally:
            _kill(platform, children, everything=True)
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


def _kill(platform: Platform, children: list[processes.Child], *, everything: bool) -> None:
    """SIGKILL to the server. What it leaves ends by itself; as after a reboot that is killed too, and its sockets are gone."""
    pid = children[-1].pid if children else int(platform.status()["pid"])
    below = processes.tree(pid)
    processes.kill_and_wait(below if everything else {pid})
    if children:
        children.pop().end(signal.SIGKILL)
    wait_for("the end of the containers", lambda: not any(map(_runs, below)), processes.END_SECONDS)
    if everything:
        shutil.rmtree(platform.folder / "r")


def _runs(pid: int) -> bool:
    return bool(processes.tree(pid))


def _start(platform: Platform, port: int, host: str) -> tuple[processes.Child, float, float]:
    """The process, and the seconds until its port takes connections and until the first answer."""
    began = time.monotonic()
    command = [sys.executable, "-P", "-m", "zygo.server.main", "--foreground"]
    child = processes.Child(
        command, cwd=platform.sources, output=platform.folder / "server.log", environment=platform.environment
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            if child.process.poll() is not None or time.monotonic() - began > ANSWER_SECONDS:
                raise RuntimeError(f"the server did not start: {child.said()[-2000:]}") from None
            time.sleep(LOOK_SECONDS)
    listens = time.monotonic() - began
    answer = client.get(port, "/?x=4", host=host)
    if answer.status != 200:
        raise RuntimeError(f"the first answer was {answer.status}")
    return child, listens, time.monotonic() - began


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
