"""burst: N blocking requests at the same moment, one at a time per container, from no container at all."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import programs
from benchmarks.platform import PLAIN_OPTIONS, Platform, Uvicorn
from benchmarks.results import Comparison, Figure, Result, per

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.client import Answer
    from benchmarks.plan import Plan

SHORT_SECONDS = 0.05
LONG_SECONDS = 3.0
"""So long that no container answers twice: every request needs a container of its own."""

TOP = "import os, time"
BODY = "time.sleep({seconds}); return {{'container': os.environ.get('ZYGO_CONTAINER_ID', '')}}"


class Burst(NamedTuple):
    """Seconds until the last answer, answers that failed, different containers that answered."""

    seconds: float
    failed: int
    containers: int


def run(plan: Plan) -> Result:
    """Bursts of short requests, cold and warm, and of long ones, which count starts."""
    size = plan.burst_size
    result = Result("burst", f"{size} requests at once, time until the last one is answered")
    result.settings = {
        "zygo": "zygo serve, sandbox on, 1 request per container and as many containers as by default",
        "uvicorn": f"uvicorn plain:web {PLAIN_OPTIONS}; blocking handlers in its pool of 40 threads",
    }
    with Platform() as platform:
        short = _program(platform.sources, "short", SHORT_SECONDS)
        with platform.serve(short) as app:
            python = platform.image_python
            cold, warm = [], []
            for _ in range(plan.bursts):
                app.end_containers()
                cold.append(_burst(app.get, size))
                warm.append(_burst(app.get, size))
        with platform.serve(_program(platform.sources, "long", LONG_SECONDS)) as app:
            starts = []
            for _ in range(max(1, plan.bursts // 2)):
                app.end_containers()
                starts.append(_burst(app.get, size))
        theirs_cold, theirs = _peer(python, platform.sources, plan)
    _report(result, size, {"zygo, from nothing": cold, "zygo, again": warm, "uvicorn, from nothing": theirs_cold})
    _report(result, size, {"uvicorn, again": theirs})
    rates = [burst.containers / (burst.seconds - LONG_SECONDS) for burst in starts]
    result.figures.append(
        Figure("zygo, containers started per second", "1/s", tuple(rates), sum(b.failed for b in starts))
    )
    result.comparisons = [
        Comparison("containers started per second, p50", result.figures[-1].p50, "1/s", "higher", goal=150),
        Comparison("uvicorn / zygo, from nothing, p50", result.figures[2].p50 / result.figures[0].p50, "x", "higher"),
    ]
    return result


def _program(folder: Path, name: str, seconds: float) -> Path:
    return programs.endpoint(folder, name, top=TOP, body=BODY.format(seconds=seconds))


def _peer(python: str, folder: Path, plan: Plan) -> tuple[list[Burst], list[Burst]]:
    programs.plain(folder, asynchronous=False, top=TOP, body=BODY.format(seconds=SHORT_SECONDS))
    cold, warm = [], []
    for _ in range(max(2, plan.bursts // 2)):
        uvicorn = Uvicorn(python, folder)
        try:
            uvicorn.prepare()
            began = time.perf_counter()
            uvicorn.start()
            spawned = time.perf_counter() - began
            burst = _burst(uvicorn.get, plan.burst_size)
            cold.append(burst._replace(seconds=burst.seconds + spawned))
            warm.append(_burst(uvicorn.get, plan.burst_size))
        finally:
            uvicorn.__exit__()
    return cold[1:], warm[1:]


def _report(result: Result, size: int, sides: dict[str, list[Burst]]) -> None:
    for what, bursts in sides.items():
        used = max(burst.containers for burst in bursts)
        note = f"by {used} containers at most" if what.startswith("zygo") else "by one process"
        samples = per([burst.seconds for burst in bursts], 1e3)
        result.figures.append(Figure(f"{what}, {size} x 50 ms", "ms", samples, sum(b.failed for b in bursts), note))


def _burst(get: Callable[[], Answer], size: int) -> Burst:
    """Threads that are all waiting at the gate when it opens; what they see is noted when they are through."""
    gate = threading.Barrier(size + 1)
    answers: list[Answer | None] = []

    def one() -> None:
        gate.wait()
        try:
            answers.append(get())
        except (OSError, ValueError):
            answers.append(None)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(size)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    good = [answer for answer in answers if answer is not None and answer.status == 200]
    return Burst(seconds, size - len(good), len({json.loads(answer.body)["container"] for answer in good}))
