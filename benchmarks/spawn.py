"""spawn: calls that are on disk before they are acknowledged, by one client process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

import zygo
from benchmarks import programs
from benchmarks.platform import Platform
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from benchmarks.plan import Plan


def run(plan: Plan) -> Result:
    """Rates of acceptance, the time from spawn to result, and that of asking for a result that is there."""
    result = Result("spawn", "durable calls of a trivial function, from one Python process")
    result.settings = {"zygo": "zygo serve, one app, SQLite (WAL, synchronous=FULL); the function runs meanwhile"}
    count = plan.calls * 2
    many: list[float] = []
    tasks: list[float] = []
    done: list[float] = []
    spawned: list[float] = []
    there: list[float] = []
    whole: list[float] = []
    with Platform() as platform:
        program = programs.called(platform.sources, "called")
        os.environ["ZYGO_RUNTIME_DIR"] = platform.environment["ZYGO_RUNTIME_DIR"]
        with platform.serve(program):
            function = zygo.Function.from_name("called", "square")
            function.spawn(1).get(timeout=60)
            for _ in range(plan.rounds):
                began = time.perf_counter()
                call = function.spawn_map(range(count))
                many.append(count / (time.perf_counter() - began))
                assert list(call.iter()) == [x * x for x in range(count)]
                done.append(count / (time.perf_counter() - began))
                began = time.perf_counter()
                calls = asyncio.run(_spawn_all(function, count))
                tasks.append(count / (time.perf_counter() - began))
                zygo.FunctionCall.gather(*calls)
                for x in range(plan.calls // 10):
                    began = time.perf_counter()
                    one = function.spawn(x)
                    accepted = time.perf_counter()
                    assert one.get(timeout=60) == x * x
                    got = time.perf_counter()
                    one.get(timeout=0)
                    spawned.append((accepted - began) * 1e3)
                    whole.append((got - began) * 1e3)
                    there.append((time.perf_counter() - got) * 1e3)
    result.figures = [
        Figure(f"spawn_map of {count}, accepted", "/s", tuple(many)),
        Figure(f"spawn_map of {count}, results read", "/s", tuple(done)),
        Figure(f"{count} concurrent spawn.aio, accepted", "/s", tuple(tasks)),
        Figure("spawn", "ms", tuple(spawned)),
        Figure("spawn until its result", "ms", tuple(whole)),
        Figure("get of a result that is there", "ms", tuple(there)),
    ]
    result.comparisons = [
        Comparison(
            "durable spawn.aio p50", Figure("", "", tuple(tasks)).p50, "calls/s", "higher", floor=1000, goal=2000
        ),
        Comparison(
            "durable spawn_map p50", Figure("", "", tuple(many)).p50, "inputs/s", "higher", floor=1000, goal=5000
        ),
    ]
    return result


async def _spawn_all(function: zygo.Function, count: int) -> list[zygo.FunctionCall]:
    return list(await asyncio.gather(*(function.spawn.aio(x) for x in range(count))))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["spawn", *sys.argv[1:]]))
