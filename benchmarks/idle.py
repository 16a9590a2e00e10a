"""idle: what a server uses that has nothing to do, with an app live and no container, and with one idle container."""

from __future__ import annotations

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
            processes.settle(app.server_pid)
            processes.settle(app.child.pid)
            server = _cpu(app.server_pid, plan)
            command = _cpu(app.child.pid, plan)
            memory = processes.memory({app.server_pid})
            command_memory = processes.memory(processes.tree(app.child.pid))
            app.get("/?x=12")
            processes.settle(app.server_pid)
            standing = _cpu(app.server_pid, plan)
        programs.plain(platform.sources)
        with Uvicorn(platform.image_python, platform.sources) as uvicorn:
            peer = _cpu(uvicorn.pid, plan)
            peer_memory = processes.memory({uvicorn.pid})
    result.figures = [
        Figure("zygo server and fork servers", "%", (server,)),
        Figure("zygo server, memory", "MiB", (memory,)),
        Figure("zygo server, fork servers one spare, one container", "%", (standing,)),
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


def _cpu(root: int, plan: Plan) -> float:
    return processes.cpu_share(root, plan.idle_seconds) * 100
