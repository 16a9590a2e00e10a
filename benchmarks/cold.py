"""cold: no container runs; from connect() to the first byte of an answer. Beside it: starting uvicorn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import programs
from benchmarks.platform import PLAIN_OPTIONS, STATE_SECONDS, App, Platform, Uvicorn, wait_for
from benchmarks.results import Comparison, Figure, Result, per

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.plan import Plan

PARK_SECONDS = 0.1
"""From the fork of a spare until it is parked, at most: it takes 20 ms, and nobody outside is told."""

HEAVY_SECONDS = 2.0
HEAVY = f"import time\ntime.sleep({HEAVY_SECONDS})  # stands for a module that takes this long to import"


def run(plan: Plan) -> Result:
    """Cold starts of an endpoint, of a whole app, and of one whose module is slow to import."""
    result = Result("cold", "scale from zero, connect() to first byte")
    result.settings = {
        "zygo": "zygo serve, sandbox on, no container when the request comes, 1 request at a time; ZYGO_SPARES=0 or 16",
        "uvicorn": f"python -m uvicorn plain:web {PLAIN_OPTIONS} on an inherited socket: from exec, no sandbox",
    }
    with Platform(spares="16") as platform, platform.serve(programs.endpoint(platform.sources, "hello")) as app:
        spare = _with_spare(app, "zygo, fastapi_endpoint, a spare is parked", plan.starts)
    with Platform(spares="0") as platform:
        with platform.serve(programs.endpoint(platform.sources, "hello")) as app:
            endpoint = _zygo(app, "zygo, fastapi_endpoint", plan.starts)
            python = platform.image_python
        with platform.serve(programs.whole_app(platform.sources, "whole")) as app:
            whole = _zygo(app, "zygo, asgi_app", plan.starts // 2)
        plain = _uvicorn(python, platform.sources, "uvicorn", plan.peer_starts)
        heavy_folder = platform.folder / "heavy"
        heavy_folder.mkdir()
        with platform.serve(programs.endpoint(heavy_folder, "heavy", top=HEAVY)) as app:
            heavy = _zygo(app, f"zygo, module takes {HEAVY_SECONDS:g} s", plan.starts // 4)
        programs.plain(heavy_folder, top=HEAVY)
        heavy_plain = _uvicorn(python, heavy_folder, f"uvicorn, module takes {HEAVY_SECONDS:g} s", 3)
    result.figures = [spare, endpoint, whole, plain, heavy, heavy_plain]
    result.comparisons = [
        Comparison("zygo p50, spare", spare.p50, "ms", goal=5),
        Comparison("zygo p99, spare", spare.percentile(99), "ms", goal=15),
        Comparison("zygo p50", endpoint.p50, "ms", floor=40, goal=12),
        Comparison("zygo p99", endpoint.percentile(99), "ms", goal=25),
        Comparison("uvicorn start / zygo cold, p50", plain.p50 / endpoint.p50, "x", "higher", floor=10),
        Comparison("uvicorn start / zygo cold, p50, slow module", heavy_plain.p50 / heavy.p50, "x", "higher"),
    ]
    return result


def _zygo(app: App, what: str, starts: int) -> Figure:
    samples, failed = [], 0
    for _ in range(starts):
        app.end_containers()
        answer = app.get("/?x=12")
        if answer.status == 200:
            samples.append(answer.seconds)
        else:
            failed += 1
    return Figure(what, "ms", per(samples, 1e3), failed)


def _with_spare(app: App, what: str, starts: int) -> Figure:
    samples, failed = [], 0
    for _ in range(starts):
        spare = wait_for("a parked spare", app.container_processes, STATE_SECONDS)
        time.sleep(PARK_SECONDS)
        answer = app.get("/?x=12")
        if answer.status == 200:
            samples.append(answer.seconds)
        else:
            failed += 1
        app.end_containers(spare)  # it has become the container that answered; the next spare stays
    return Figure(what, "ms", per(samples, 1e3), failed)


def _uvicorn(python: str, folder: Path, what: str, starts: int) -> Figure:
    samples = []
    for _ in range(starts + 1):
        uvicorn = Uvicorn(python, folder)
        try:
            uvicorn.prepare()
            began = time.perf_counter()
            uvicorn.start()
            spawned = time.perf_counter() - began
            samples.append(spawned + uvicorn.get("/?x=12").seconds)
        finally:
            uvicorn.__exit__()
    # The first one compiles the modules of a new environment to byte code, which happens once and not at every start.
    return Figure(what, "ms", per(samples[1:], 1e3))
