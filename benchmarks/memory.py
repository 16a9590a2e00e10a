"""memory: what one more idle container costs, shared pages divided among those who share them (PSS)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from benchmarks import processes, programs
from benchmarks.platform import PLAIN_OPTIONS, App, Platform, Uvicorn, wait_for
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from benchmarks.plan import Plan

PEERS = 4


def run(plan: Plan) -> Result:
    """One container, then `idle_containers` more; the difference of everything below the server, divided."""
    more = plan.idle_containers
    result = Result("memory", f"proportional set size per further idle container, {more} of them")
    result.settings = {
        "zygo": "zygo serve, sandbox on, no spare, each container has answered one request; all below the server",
        "uvicorn": f"{PEERS} further processes of uvicorn plain:web {PLAIN_OPTIONS}, each has answered one request",
    }
    with Platform(spares="0") as platform:
        body = "time.sleep(1.0); return {'square': x**2}"
        program = programs.endpoint(
            platform.sources, "held", options="scaledown_window=300", top="import time", body=body
        )
        with platform.serve(program) as app:
            processes.settle(app.server_pid)
            base = processes.memory(app.processes())
            _containers(app, 1)
            one = processes.memory(app.processes())
            _containers(app, 1 + more)
            all_of_them = processes.memory(app.processes())
            zygotes = processes.memory(app.processes() - app.container_processes() - {app.server_pid})
            python = platform.image_python
        programs.plain(platform.sources)
        peer, resident = _peers(python, platform)
    further = (all_of_them - one) / more
    result.figures = [
        Figure("zygo, server and fork servers, no container", "MiB", (base,)),
        Figure("zygo, fork servers' share with all containers", "MiB", (zygotes,)),
        Figure("zygo, the first container", "MiB", (one - base,)),
        Figure("zygo, each further container", "MiB", (further,)),
        Figure("uvicorn, each further process", "MiB", (peer,)),
        Figure("uvicorn, resident set of a process", "MiB", (resident,)),
    ]
    result.comparisons = [
        Comparison("PSS per further idle container", further, "MiB", floor=8, goal=4),
        Comparison("uvicorn process / container", peer / further, "x", "higher"),
    ]
    return result


def _containers(app: App, count: int) -> None:
    """Blocking requests at once until that many containers stand, idle again."""
    threads = [threading.Thread(target=app.get, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(f"{count} containers", lambda: app.containers() == count, 30.0)


def _peers(python: str, platform: Platform) -> tuple[float, float]:
    started: list[Uvicorn] = []
    try:
        sums = []
        for count in (1, 1 + PEERS):
            while len(started) < count:
                uvicorn = Uvicorn(python, platform.sources)
                started.append(uvicorn)
                uvicorn.__enter__()
            sums.append(processes.memory(u.pid for u in started))
        return (sums[1] - sums[0]) / PEERS, processes.resident(started[0].pid)
    finally:
        for uvicorn in started:
            uvicorn.__exit__()
