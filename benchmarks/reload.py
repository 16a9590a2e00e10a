"""reload: from the save of a file to the first answer of the new code. Beside it: uvicorn --reload."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import programs
from benchmarks.platform import Platform, Uvicorn
from benchmarks.results import Comparison, Figure, Result, per

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.client import Answer
    from benchmarks.plan import Plan

NEW_CODE_SECONDS = 15.0
ASK_EVERY = 0.002
"""Seconds between two requests while the answer is still the old one."""

THINK = (0.3, 0.6)
"""Seconds between two saves, at random: a fixed pause could keep step with a reloader that polls."""

MARK = "NUMBER = 0"


class Saves(NamedTuple):
    """Seconds until the new code answered, per save; requests that failed meanwhile, and all of them."""

    seconds: list[float]
    failed: int
    asked: int


def run(plan: Plan) -> Result:
    """The same edit on both sides: a constant of the module."""
    result = Result(
        "reload", "save (os.replace) to the first answer of the new code, asked all the time on new connections"
    )
    result.settings = {
        "zygo": "zygo serve, sandbox on, fastapi_endpoint",
        "uvicorn": "uvicorn plain:web --reload --no-access-log (watchfiles)",
    }
    body = "return {'square': x**2, 'number': NUMBER}"
    with Platform() as platform:
        program = programs.endpoint(platform.sources, "edited", top=MARK, body=body)
        with platform.serve(program) as app:
            ours = _saves(program, app.get, plan.saves)
            python = platform.image_python
        folder = platform.folder / "plain"
        folder.mkdir()
        edited = programs.plain(folder, top=MARK, body=body)
        with Uvicorn(python, folder, "--reload --no-access-log", inherit=False) as uvicorn:
            theirs = _saves(edited, uvicorn.get, plan.saves)
    for what, saves in (("zygo serve", ours), ("uvicorn --reload", theirs)):
        note = f"of {saves.asked} requests"
        result.figures.append(Figure(what, "ms", per(saves.seconds, 1e3), saves.failed, note))
    mine, peer = result.figures
    result.comparisons = [
        Comparison("zygo serve p50", mine.p50, "ms", floor=250, goal=60),
        Comparison("uvicorn --reload / zygo serve, p50", peer.p50 / mine.p50, "x", "higher"),
        Comparison("requests lost by zygo serve", float(ours.failed), floor=0, goal=0),
    ]
    return result


def _saves(file: Path, get: Callable[[], Answer], count: int) -> Saves:
    pauses = random.Random(1)
    seconds, failed, asked = [], 0, 0
    text = file.read_text()
    assert MARK in text
    get()  # the first edit meets a warm container, as every later one does
    for number in range(1, count + 2):
        time.sleep(pauses.uniform(*THINK))
        staged = file.with_suffix(".staged")
        staged.write_text(text.replace(MARK, f"NUMBER = {number}"))
        wanted = f'"number":{number}}}'.encode()
        began = time.perf_counter()
        os.replace(staged, file)
        while True:
            asked += 1
            try:
                answer = get()
            except (OSError, ValueError):
                answer = None
            if answer is not None and answer.status == 200:
                if answer.body.endswith(wanted):
                    break
            else:
                failed += 1
            if time.perf_counter() - began > NEW_CODE_SECONDS:
                raise TimeoutError(f"save {number} of {file.name} is not served after {NEW_CODE_SECONDS:g} s")
            time.sleep(ASK_EVERY)
        seconds.append(time.perf_counter() - began)
    # The first save meets caches that are still empty on both sides: one in a session, not what a save feels like.
    return Saves(seconds[1:], failed, asked)
