"""The application of a called function, spoken to as uvicorn does: frames in, frames out. Whole containers: e2e/test_calls.py."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

import zygo
from zygo.errors import InputCancellation
from zygo.guest import calls
from zygo.guest.runner import MainThread, OnLoop, Threads
from zygo.sdk import frames, payload

Frames = list[tuple[bytes, int, int, bytes]]


async def double(x: int) -> int:
    return x * 2


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)
    return zygo.current_input_id() or ""


def application(function: Any, timeout: float = 10.0, max_inputs: int = 4) -> calls.App:
    """As the revision zygote makes it of an `Entry`."""
    made: Any = SimpleNamespace(
        raw=function, name=function.__name__, max_inputs=max_inputs, timeout=timeout, batch=None
    )
    return calls.App(made)


class Cycle:
    """What uvicorn's request cycle is to the application: `receive` is its method."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.disconnected = False
        self.on_left: Any = None
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def frames(self) -> Frames:
        return frames.Reader().feed(b"".join(m.get("body", b"") for m in self.sent))


def scope(body: bytes, call: str = "fc-1") -> dict[str, Any]:
    headers = [(b"zygo-call", call.encode()), (b"zygo-python", b"3.11.0"), (b"content-length", str(len(body)).encode())]
    return {"type": "http", "method": "POST", "headers": headers}


def inputs(*arguments: Any) -> bytes:
    return b"".join(
        frames.frame(frames.INPUT, place, payload.dumps(((argument,), {}), "It"))
        for place, argument in enumerate(arguments)
    )


def answer(app: calls.App, *arguments: Any) -> Cycle:
    cycle = Cycle(inputs(*arguments))
    asyncio.run(app.serve(scope(cycle.body), cycle.receive, cycle.send))
    return cycle


def test_who_runs_what() -> None:
    assert isinstance(application(double).runner, OnLoop)
    assert isinstance(application(spin).runner, Threads)
    assert isinstance(application(spin, max_inputs=1).runner, MainThread)


def test_one_input_is_answered_with_a_length() -> None:
    cycle = answer(application(double), 4)
    ((kind, place, _, data),) = cycle.frames()
    assert (kind, place, pickle.loads(data)) == (frames.VALUE, 0, 8)
    assert dict(cycle.sent[0]["headers"])[b"content-length"] == str(len(cycle.sent[1]["body"])).encode()


def test_several_inputs_come_back_each_by_itself() -> None:
    found = answer(application(double), 1, "no", None, 3).frames()
    assert [(kind, place) for kind, place, _, _ in found] == [
        (frames.VALUE, 0),
        (frames.VALUE, 1),
        (frames.FAILURE, 2),
        (frames.VALUE, 3),
    ]
    assert [pickle.loads(data) for kind, _, _, data in found if kind == frames.VALUE] == [2, "nono", 6]
    assert pickle.loads(found[2][3])["type"] == "TypeError"


def test_inputs_behind_a_slow_one_are_given_back() -> None:
    found = answer(application(nap), 0.0, 0.3, 0.0, 0.0).frames()
    assert [(kind, place) for kind, place, _, _ in found] == [
        (frames.VALUE, 0),
        (frames.RETURNED, 2),
        (frames.RETURNED, 3),
        (frames.VALUE, 1),
    ]
    assert found[3][2] >= 250_000, "the time that the function took"


@pytest.mark.parametrize(("function", "argument"), [(nap, 30.0), (spin, 30.0)])
def test_a_timeout_is_told_and_the_code_stopped(function: Any, argument: float) -> None:
    began = time.monotonic()
    found = answer(application(function, timeout=0.2), argument).frames()
    assert time.monotonic() - began < 5
    ((kind, _, _, data),) = found
    assert kind == frames.TIMEOUT
    assert pickle.loads(data)["kind"] == "timeout"


def test_a_caller_that_leaves_stops_its_own_input_alone() -> None:
    stopped: list[str] = []
    began = threading.Barrier(3)

    def held(seconds: float) -> str:
        try:
            began.wait(10)
            return spin(seconds)
        except InputCancellation:
            stopped.append(threading.current_thread().name)
            raise

    async def program() -> None:
        app = application(held)
        gone, stays = Cycle(inputs(30.0)), Cycle(inputs(0.4))
        both = asyncio.gather(
            app.serve(scope(gone.body), gone.receive, gone.send),
            app.serve(scope(stays.body, "fc-2"), stays.receive, stays.send),
        )
        await asyncio.to_thread(began.wait, 10)
        gone.on_left()
        await both
        ((kind, _, _, data),) = stays.frames()
        assert (kind, pickle.loads(data)) == (frames.VALUE, "in-2")
        assert gone.frames() == []

    asyncio.run(program())
    assert len(stopped) == 1


def test_the_rehearsal_leaves_nothing() -> None:
    app = application(double)
    assert app.prebuild()
    assert answer(app, 1).frames()[0][0] == frames.VALUE
