"""kill -9 of the server, zygotes and containers, at any moment: every spawned call ends with one result.

500 calls by default; TESTS_ALL=1 for 10,000.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest

import zygo

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.testing.harness import Place

CALLS = 10_000 if os.environ.get("TESTS_ALL") else 500

PROGRAM = """
import os, time, uuid
import zygo

app = zygo.App("killed")

@app.function()
@zygo.fastapi_endpoint()
def hello():
    return "hello"

@app.function(max_containers=4)
def work(x):
    time.sleep(0.02)
    return x, str(uuid.uuid4())
"""


class Killer:
    """Kills something every now and then until it is told to stop, and starts the server again."""

    def __init__(self, place: Place) -> None:
        self.killed: collections.Counter[str] = collections.Counter()
        self._place = place
        self._random = random.Random(7)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._random.uniform(0.1, 0.7)):
            kind = self._random.choices(["container", "revision", "image", "server"], [6, 2, 1, 2])[0]
            if kind == "server":
                self._place.kill_server()
                self.killed[kind] += 1
                self._place.start_server()
                continue
            found = [process for process in self._place.processes() if process.kind == kind]
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._random.choice(found).pid, signal.SIGKILL)
                self.killed[kind] += 1


@pytest.mark.timeout(900 if CALLS > 500 else 120)
def test_every_spawned_call_ends_with_one_result(
    fresh_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = fresh_place
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(place.runtime))
    path = tmp_path / "killed.py"
    path.write_text(PROGRAM)
    place.deploy(path)
    work = zygo.Function.from_name("killed", "work")

    async def spawn() -> list[zygo.FunctionCall]:
        calls: list[zygo.FunctionCall] = []
        for begin in range(0, CALLS, 50):
            calls += await asyncio.gather(*(work.spawn.aio(x) for x in range(begin, min(begin + 50, CALLS))))
        return calls

    began = time.monotonic()
    with Killer(place) as killer:
        calls = asyncio.run(spawn())
        results = zygo.FunctionCall.gather(*calls)
    assert [x for x, _ in results] == list(range(CALLS))
    assert len({token for _, token in results}) == CALLS
    # What was once a result stays it.
    assert zygo.FunctionCall.gather(*calls) == results
    place.stop_server()
    with contextlib.closing(sqlite3.connect(place.data / "zygo.db")) as database:
        assert database.execute("SELECT state, count(*) FROM inputs GROUP BY state").fetchall() == [
            ("succeeded", CALLS)
        ]
        assert database.execute("SELECT sum(inputs), sum(open) FROM calls").fetchone() == (CALLS, 0)
    assert killer.killed["server"] >= 1
    assert killer.killed["container"] >= 1
    print(f"{CALLS} calls in {time.monotonic() - began:.1f} s, killed: {dict(killer.killed)}")
