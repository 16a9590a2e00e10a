"""warm: the same FastAPI application behind the gateway and on bare uvicorn, loaded with wrk."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks import client, programs
from benchmarks.platform import PLAIN_OPTIONS, App, Platform, Uvicorn, wait_for
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan

CONNECTIONS = (1, 16, 64)
WARM_UP_SECONDS = 1.0
MAX_INPUTS = 100

PAIR = "min_containers=2, max_containers=2"


def run(plan: Plan) -> Result:
    """Rounds that alternate between the two sides, so that what disturbs one disturbs the other."""
    result = Result("warm", "throughput and latency of a warm async FastAPI handler, wrk with one thread")
    result.settings = {
        "zygo": f"zygo serve, gateway + one container, concurrent(max_inputs={MAX_INPUTS}), request log on",
        "uvicorn": f"uvicorn plain:web {PLAIN_OPTIONS}; unbounded concurrency",
        "rounds": f"{plan.rounds} of {plan.load_seconds:g} s each, alternating; connections {CONNECTIONS}",
    }
    with Platform() as platform:
        program = programs.whole_app(platform.sources, "warm", options="max_containers=1", max_inputs=MAX_INPUTS)
        with platform.serve(program) as app, _uvicorn(platform) as uvicorn:
            for connections in CONNECTIONS:
                _measure(result, plan, app, uvicorn, connections)
            with platform.relay(uvicorn.port) as relay:
                _measure_relay(result, plan, relay, uvicorn.url)
        program = programs.whole_app(platform.sources, "pair", options=PAIR, max_inputs=32, target_inputs=32)
        with platform.serve(program) as app, _uvicorn(platform, workers=2) as uvicorn:
            wait_for("two containers", lambda: app.containers() == 2, 30.0)
            _measure(result, plan, app, uvicorn, 64, ", 2 containers / 2 workers", goal=0.9)
    return result


def _uvicorn(platform: Platform, workers: int = 1) -> Uvicorn:
    options = PLAIN_OPTIONS.replace("--workers 1", f"--workers {workers}")
    return Uvicorn(platform.image_python, platform.sources, options, inherit=False)


def _measure(
    result: Result,
    plan: Plan,
    app: App,
    uvicorn: Uvicorn,
    connections: int,
    suffix: str = "",
    goal: float = 1.0,
) -> None:
    ours, theirs = _rounds(plan, lambda s: _load(app.url, connections, s), lambda s: _load(uvicorn.url, connections, s))
    at = f"{connections} connection{'s' if connections > 1 else ''}{suffix}"
    for side, loads in (("zygo", ours), ("uvicorn", theirs)):
        failed = sum(load.failed for load in loads)
        rates = tuple(load.rate for load in loads)
        result.figures += [
            Figure(f"{side}, {at}", "req/s", rates, failed),
            Figure(f"{side}, {at}, p50", "us", tuple(load.p50 for load in loads)),
            Figure(f"{side}, {at}, p99", "us", tuple(load.p99 for load in loads)),
        ]
    ratio = statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    floor = 0.9 if connections == 16 else None
    result.comparisons.append(Comparison(f"throughput zygo / uvicorn, {at}", ratio, "", "higher", floor, goal))
    if connections == 1:
        added = statistics.median(a.p50 - b.p50 for a, b in zip(ours, theirs, strict=True))
        result.comparisons.append(Comparison("added latency p50, 1 connection", added, "us", floor=150, goal=40))


def _measure_relay(result: Result, plan: Plan, relay: str, direct: str) -> None:
    """What one more process costs here and now, whatever it does."""
    through, bare = _rounds(plan, lambda s: _load(relay, 1, s), lambda s: _load(direct, 1, s))
    result.figures.append(
        Figure("uvicorn behind a relay of bytes, 1 connection, p50", "us", tuple(load.p50 for load in through))
    )
    added = statistics.median(a.p50 - b.p50 for a, b in zip(through, bare, strict=True))
    result.comparisons.append(Comparison("added latency p50 of the relay alone, 1 connection", added, "us"))


def _rounds(
    plan: Plan, ours: Callable[[float], client.Load], theirs: Callable[[float], client.Load]
) -> tuple[list[client.Load], list[client.Load]]:
    ours(WARM_UP_SECONDS)
    theirs(WARM_UP_SECONDS)
    found: tuple[list[client.Load], list[client.Load]] = ([], [])
    for number in range(plan.rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            found[side].append((ours, theirs)[side](plan.load_seconds))
    return found


def _load(url: str, connections: int, seconds: float) -> client.Load:
    return client.wrk(f"{url}?x=12", connections=connections, seconds=seconds)
