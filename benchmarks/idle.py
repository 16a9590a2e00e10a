"""idle: what a server uses that has nothing to do, with an app live and no container, and with one idle container."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import processes, programs
from benchmarks.platform import PLAIN_OPTIONS, Platform, Uvicorn
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from benchmarks.plan import Plan


def run(plan: Plan) -> Result:
    """Processor time over a while, as a share of one core, and memory."""
    result = Result("idle", f"processor and memory of what stands by, over {plan.idle_seconds:g} s")
    result.settings = {
        "zygo": "server + fork servers of one app; the command `zygo serve` beside it; then with one idle container",
        "uvicorn": f"uvicorn plain:web {PLAIN_OPTIONS}",
    }
    with Platform() as platform:
        program = programs.endpoint(platform.sources, "idle", options="scaledown_window=300")
        with platform.serve(program) as app:
            server = _cpu({app.server_pid}, plan.idle_seconds)
            command = _cpu(processes.tree(app.child.pid), plan.idle_seconds)
            memory = processes.memory({app.server_pid})
            command_memory = processes.memory(processes.tree(app.child.pid))
            app.get("/?x=12")
            standing = _cpu(app.processes(), plan.idle_seconds)
        programs.plain(platform.sources)
        with Uvicorn(platform.image_python, platform.sources) as uvicorn:
            peer = _cpu({uvicorn.pid}, plan.idle_seconds)
            peer_memory = processes.memory({uvicorn.pid})
    result.figures = [
        Figure("zygo server", "%", (server,)),
        Figure("zygo server, memory", "MiB", (memory,)),
        Figure("zygo server, fork servers and one container", "%", (standing,)),
        Figure("zygo serve (the command)", "%", (command,)),
        Figure("zygo serve (the command), memory", "MiB", (command_memory,)),
        Figure("uvicorn", "%", (peer,)),
        Figure("uvicorn, memory", "MiB", (peer_memory,)),
    ]
    result.comparisons = [
        Comparison("idle server", server, "% of a core", goal=0.5),
        Comparison("idle server, PSS", memory, "MiB", goal=90),
    ]
    return result


def _cpu(pids: set[int], seconds: float) -> float:
    before = processes.cpu_seconds(pids)
    time.sleep(seconds)
    return (processes.cpu_seconds(pids) - before) / seconds * 100
