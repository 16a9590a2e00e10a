"""Spawned calls, by the real client against the real server and its containers: results that are kept, whatever happens."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

import zygo
from zygo import errors
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zygo.testing.harness import Place, Serve

PROGRAM = '''
import os, time
import zygo

app = zygo.App("spawned")

@app.function()
@zygo.fastapi_endpoint()
def begin(x: int):
    """Spawns, as a form's handler does."""
    return {"id": square.spawn(x).object_id}

@app.function()
@zygo.fastapi_endpoint()
def poll(id: str):
    try:
        return {"result": zygo.FunctionCall.from_id(id).get(timeout=0)}
    except TimeoutError:
        return {"result": None}

@app.function()
def square(x):
    return x * x

@app.function()
def ids():
    return zygo.current_function_call_id(), zygo.current_input_id()

@app.function()
def fail(text):
    raise ValueError(text)

@app.function(max_containers=1)
def wait(seconds):
    try:
        time.sleep(seconds)
    except BaseException as error:
        print("stopped by", type(error).__name__, flush=True)
        raise
    return os.environ["ZYGO_CONTAINER_ID"]

@app.function()
def wait_here(seconds):
    time.sleep(seconds)
    return os.environ["ZYGO_CONTAINER_ID"]

@app.function(max_containers=1)
def slow(seconds):
    time.sleep(seconds)
    return seconds

@app.function(retries=1)
def always():
    raise RuntimeError("again")

@app.function(timeout=1)
def too_long():
    time.sleep(60)

@app.function()
def poison():
    os.kill(os.getpid(), 9) if os.getpid() != 1 else os._exit(9)

@app.function()
def big(n):
    return b"x" * n

@app.function()
def length(data):
    return len(data)

@app.function()
def generate():
    yield 1

@app.function()
def nested(x):
    return square.spawn(x).get(timeout=30)
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spawn") / "spawned.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def serve(place: Place, program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(place.runtime))
    with place.serve(program) as serve:
        yield serve


def function(name: str) -> zygo.Function:
    return zygo.Function.from_name("spawned", name)


def test_a_spawned_call_gives_its_result_as_often_as_it_is_asked_for(serve: Serve) -> None:
    call = function("square").spawn(7)
    assert call.object_id.startswith("fc-")
    assert call.get(timeout=30) == 49
    assert call.get() == 49
    again = zygo.FunctionCall.from_id(call.object_id)
    assert again == call
    assert again.get(timeout=0) == 49
    assert again.num_inputs() == 1


def test_a_result_that_is_not_there_is_a_timeout(serve: Serve) -> None:
    call = function("slow").spawn(1.0)
    with pytest.raises(TimeoutError, match="has no result yet"):
        call.get(timeout=0)
    with pytest.raises(errors.TimeoutError):
        call.get(timeout=0.1)
    assert call.get(timeout=30) == 1.0


def test_spawn_map_has_many_inputs(serve: Serve) -> None:
    call = function("square").spawn_map(range(30))
    assert call.num_inputs() == 30
    assert list(call.iter()) == [x * x for x in range(30)]
    assert list(call.iter(start=3, end=5)) == [9, 16]
    assert call.get(index=29, timeout=30) == 841
    with pytest.raises(errors.InvalidError, match="30 inputs"):
        call.get(index=30)
    with pytest.raises(errors.InvalidError, match="no inputs"):
        function("square").spawn_map([])


def test_gather_and_async(serve: Serve) -> None:
    calls = [function("square").spawn(x) for x in range(5)]
    assert zygo.FunctionCall.gather(*calls) == [0, 1, 4, 9, 16]

    async def main() -> None:
        square = function("square")
        calls = await asyncio.gather(*(square.spawn.aio(x) for x in range(20)))
        assert await zygo.FunctionCall.gather.aio(*calls) == [x * x for x in range(20)]
        assert await calls[3].get.aio(timeout=30) == 9
        mapped = await square.spawn_map.aio([1, 2])
        assert [value async for value in mapped.iter.aio()] == [1, 4]

    asyncio.run(main())


def test_what_it_raised_is_raised(serve: Serve) -> None:
    call = function("fail").spawn("no such thing")
    with pytest.raises(ValueError, match="no such thing"):
        call.get(timeout=30)
    with pytest.raises(errors.FunctionTimeoutError, match="timeout of 1 s"):
        function("too_long").spawn().get(timeout=30)


def test_inside_it_knows_its_ids(serve: Serve) -> None:
    call = function("ids").spawn()
    call_id, input_id = call.get(timeout=30)
    assert call_id == call.object_id
    assert input_id.startswith("in-")


def test_from_containers(serve: Serve) -> None:
    identifier = serve.get("begin", params={"x": 6}).json()["id"]
    assert until(lambda: serve.get("poll", params={"id": identifier}).json()["result"]) == 36
    assert function("nested").spawn(5).get(timeout=60) == 25


def test_large_arguments_and_results_go_through_files(serve: Serve) -> None:
    size = 3 * 2**20
    assert len(function("big").spawn(size).get(timeout=30)) == size
    assert function("length").spawn(b"y" * size).get(timeout=30) == size
    files = [path for path in (serve.place.data / "calls").rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_size >= size for path in files)


def test_a_pending_call_that_was_cancelled_never_begins(serve: Serve) -> None:
    first = function("slow").spawn(1.0)
    second = function("slow").spawn(0.5)
    second.cancel()
    with pytest.raises(errors.RemoteError, match="was cancelled"):
        second.get(timeout=5)
    assert first.get(timeout=30) == 1.0
    # What has its result keeps it.
    first.cancel()
    assert first.get(timeout=0) == 1.0


def test_a_running_call_that_was_cancelled_is_stopped(serve: Serve) -> None:
    before = function("wait").remote(0)
    call = function("wait").spawn(60)
    until(lambda: function("wait").get_current_stats().num_running_inputs == 1)
    call.cancel()
    with pytest.raises(errors.RemoteError, match="was cancelled"):
        call.get(timeout=5)
    # The same container is free again.
    until(lambda: function("wait").get_current_stats().num_running_inputs == 0)
    serve.wait_for("stopped by InputCancellation", anywhere=True)
    assert function("wait").spawn(0.0).get(timeout=10) == before


def test_its_container_may_be_ended_with_it(serve: Serve) -> None:
    before = function("wait_here").remote(0)
    call = function("wait_here").spawn(60)
    until(lambda: function("wait_here").get_current_stats().num_running_inputs == 1)
    call.cancel(terminate_containers=True)
    until(lambda: function("wait_here").get_current_stats().num_running_inputs == 0)
    assert function("wait_here").remote(0) != before


def test_a_poison_input_gives_up(serve: Serve) -> None:
    call = function("poison").spawn()
    with pytest.raises(errors.ContainerError, match="10 times and its container was lost each time"):
        call.get(timeout=60)
    assert function("square").spawn(3).get(timeout=30) == 9


def test_it_is_repeated_as_the_function_says(serve: Serve) -> None:
    serve.skip()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="again"):
        function("always").spawn().get(timeout=60)
    # One repetition, a second after the failure.
    assert time.monotonic() - began >= 1
    for _ in range(2):
        serve.wait_for("always . RuntimeError: again$")
    assert len([line for line in serve.lines if line.endswith("RuntimeError: again")]) == 2


def test_what_cannot_be_spawned_is_said(serve: Serve) -> None:
    with pytest.raises(errors.InvalidError, match="generator"):
        function("generate").spawn()
    with pytest.raises(errors.InvalidError, match="web function"):
        function("poll").spawn(id="x")
    with pytest.raises(errors.NotFoundError):
        zygo.FunctionCall.from_id("fc-doesnotexist").get(timeout=0)
    with pytest.raises(errors.InvalidError, match="not the id"):
        zygo.FunctionCall.from_id("square")
    with pytest.raises(errors.UnsupportedError, match="get_call_graph"):
        function("square").spawn(1).get_call_graph()


def test_the_calls_of_an_app_that_is_served_end_with_it(
    place: Place, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(place.runtime))
    with place.serve(program):
        call = function("slow").spawn(60)
        status = place.status()
        assert status is not None
        waiting = function("slow").spawn_map([60.0] * 3)
        until(lambda: function("slow").get_current_stats().backlog >= 2)
    for ended in (call, waiting):
        with pytest.raises(errors.RemoteError, match="app has ended"):
            ended.get(timeout=5)


def test_calls_of_a_deployed_app_survive_the_server(
    fresh_place: Place, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(fresh_place.runtime))
    fresh_place.deploy(program)
    call = function("slow").spawn_map([0.3] * 10)
    done = function("square").spawn(4)
    assert done.get(timeout=30) == 16
    fresh_place.kill_server()
    fresh_place.start_server()
    assert list(call.iter()) == [0.3] * 10
    assert done.get(timeout=0) == 16
    # A new revision runs what is pending; a stop cancels it.
    pending = function("slow").spawn_map([0.5] * 4)
    program_v2 = program.with_name("spawned.py")
    text = program_v2.read_text()
    try:
        program_v2.write_text(text + "\n# v2\n")
        fresh_place.deploy(program_v2)
    finally:
        program_v2.write_text(text)
    assert list(pending.iter()) == [0.5] * 4
    last = function("slow").spawn(60)
    assert fresh_place.zygo("app", "stop", "spawned", "--yes").code == 0
    with pytest.raises(errors.RemoteError, match="was stopped"):
        last.get(timeout=5)
