"""calls: a trivial function called from Python, beside a pool of processes of the standard library (and Ray, if it is there)."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import zygo
from benchmarks import programs
from benchmarks.platform import Platform
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.plan import Plan

WORKERS = os.cpu_count() or 1
CHUNK = 64
"""Inputs that the pool sends at once: as many as a map of ours sends of a short function."""


def square(x: int) -> int:
    """What is called on both sides."""
    return x * x


def run(plan: Plan) -> Result:
    """Rounds that alternate between the sides, so that what disturbs one disturbs the other."""
    result = Result("calls", "a trivial function called from one Python process: round trips and maps")
    has_ray = importlib.util.find_spec("ray") is not None
    result.settings = {
        "zygo": "zygo serve, one app; Function.from_name(...).remote() and .map(), in sandboxes",
        "processes": f"concurrent.futures.ProcessPoolExecutor({WORKERS}), fork; submit().result() and map(chunksize={CHUNK})",
        "ray": "tasks of a local cluster" if has_ray else "not installed, not measured",
    }
    with Platform() as platform:
        program = programs.called(platform.sources, "called")
        os.environ["ZYGO_RUNTIME_DIR"] = platform.environment["ZYGO_RUNTIME_DIR"]
        # Forked before this process has threads of its own.
        with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool, platform.serve(program):
            list(pool.map(square, range(1000)))
            function = zygo.Function.from_name("called", "square")
            sides: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
                "zygo": (function.remote, lambda n: list(function.map(range(n)))),
                "processes": (
                    lambda x: pool.submit(square, x).result(),
                    lambda n: list(pool.map(square, range(n), chunksize=CHUNK)),
                ),
            }
            if has_ray:
                sides["ray"] = _ray()
            _measure(result, plan, sides)
            _one_by_one(result, plan, pool)
            _large(result, plan)
    return result


def _measure(result: Result, plan: Plan, sides: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]]) -> None:
    trips: dict[str, list[float]] = {side: [] for side in sides}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for call, whole in sides.values():
        for x in range(20):
            call(x)
        whole(1000)
    for number in range(plan.rounds):
        for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
            call, whole = sides[side]
            for x in range(plan.calls):
                began = time.perf_counter()
                answer = call(x)
                trips[side].append((time.perf_counter() - began) * 1e3)
                assert answer == x * x
            began = time.perf_counter()
            found = whole(plan.mapped)
            rates[side].append(plan.mapped / (time.perf_counter() - began))
            assert found == [x * x for x in range(plan.mapped)]
    for side in sides:
        result.figures += [
            Figure(f"{side}, round trip", "ms", tuple(trips[side])),
            Figure(f"{side}, map of {plan.mapped}", "/s", tuple(rates[side])),
        ]
    trip, rate = (Figure("", "", tuple(samples["zygo"])).p50 for samples in (trips, rates))
    result.comparisons += [
        Comparison("zygo, .remote() round trip p50", trip, "ms", floor=0.8, goal=0.6),
        Comparison("zygo, .map() p50", rate, "calls/s", "higher", floor=3000, goal=10_000),
    ]


def _one_by_one(result: Result, plan: Plan, pool: ProcessPoolExecutor) -> None:
    """The pool as it is used without a thought: each input by itself."""
    count = plan.mapped // 10
    rates = []
    for _ in range(plan.rounds):
        began = time.perf_counter()
        assert sum(1 for _ in pool.map(square, range(count))) == count
        rates.append(count / (time.perf_counter() - began))
    result.figures.append(Figure(f"processes, map of {count} with chunksize=1", "/s", tuple(rates)))


def _large(result: Result, plan: Plan) -> None:
    """Ten megabytes there, its length back."""
    function = zygo.Function.from_name("called", "size")
    data = os.urandom(10_000_000)
    samples = []
    for _ in range(plan.rounds * 4):
        began = time.perf_counter()
        assert function.remote(data) == len(data)
        samples.append((time.perf_counter() - began) * 1e3)
    result.figures.append(Figure("zygo, 10 MB of arguments", "ms", tuple(samples)))


def _ray() -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    ray: Any = importlib.import_module("ray")
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    task = ray.remote(square)
    return lambda x: ray.get(task.remote(x)), lambda n: ray.get([task.remote(x) for x in range(n)])


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["calls", *sys.argv[1:]]))
