"""Batches: inputs of several callers run as one list."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import FunctionTimeoutError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Place, Serve

PROGRAM = """
import asyncio
import threading
import time

import zygo

app = zygo.App("batches")


@app.function(max_containers=1)
@zygo.batched(max_batch_size=4, wait_ms=1500)
async def doubled(xs):
    assert isinstance(xs, list)
    return [(x * 2, len(xs)) for x in xs]


@app.function(max_containers=1)
@zygo.batched(max_batch_size=4, wait_ms=300_000)
async def full(xs):
    return [len(xs)] * len(xs)


@app.function(max_containers=1)
@zygo.batched(max_batch_size=4, wait_ms=1500)
def added(xs, ys):
    assert threading.current_thread() is threading.main_thread()
    return [(x + y, len(xs)) for x, y in zip(xs, ys)]


@app.function(max_containers=1)
@zygo.batched(max_batch_size=3, wait_ms=1500)
def strange(kinds):
    kind = kinds[0]
    if kind == "short":
        return kinds[:-1]
    if kind == "text":
        return "abc"
    if kind == "raise":
        raise ValueError("for all of you")
    if kind == "one":
        return [KeyError("mine") if index == 1 else index for index, _ in enumerate(kinds)]
    return [object] * len(kinds)


@app.function(max_containers=1, timeout=1)
@zygo.batched(max_batch_size=2, wait_ms=500)
def slow(seconds):
    time.sleep(max(seconds))
    return seconds


@app.cls(max_containers=1)
class Converter:
    @zygo.enter()
    def start(self):
        self.offset = 33

    @zygo.batched(max_batch_size=4, wait_ms=1500)
    async def ordinals(self, chars):
        return [(ord(char) - self.offset, len(chars)) for char in chars]
"""


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("batches") / "batches.py"
    path.write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch, shared_place.serve(path) as running:
        patch.setenv("ZYGO_RUNTIME_DIR", str(shared_place.runtime))
        yield running
        assert running.stop() == 0
    shared_place.settle()


def function(name: str) -> Any:
    return zygo.Function.from_name("batches", name)


def together(name: str, inputs: list[tuple[Any, ...]]) -> list[Any]:
    """Call it with each of the inputs at once; results, or what was raised."""

    def one(args: tuple[Any, ...]) -> Any:
        try:
            return function(name).remote(*args)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(inputs)) as threads:
        return list(threads.map(one, inputs))


def test_a_full_batch_goes_at_once(serve: Serve) -> None:
    # Three would wait for a fourth for longer than any test may take.
    assert together("full", [(x,) for x in range(4)]) == [4] * 4


def test_one_alone_waits_for_others_and_goes(serve: Serve) -> None:
    assert function("doubled").remote(21) == (42, 1)


def test_a_map_is_batched_in_order(serve: Serve) -> None:
    results = list(function("doubled").map(range(10)))
    assert [value for value, _ in results] == [2 * x for x in range(10)]
    assert max(size for _, size in results) == 4


def test_a_sync_function_gets_a_list_for_each_parameter(serve: Serve) -> None:
    function("added").remote(0, 0)
    assert together("added", [(x, 10 * x) for x in range(4)]) == [(11 * x, 4) for x in range(4)]


def test_arguments_by_name_and_arguments_that_do_not_fit(serve: Serve) -> None:
    assert function("added").remote(1, ys=2) == (3, 1)
    with pytest.raises(TypeError, match="ys"):
        function("added").remote(1)


def test_a_method(serve: Serve) -> None:
    async def body() -> list[Any]:
        converter: Any = zygo.Cls.from_name("batches", "Converter")()
        return [each async for each in converter.ordinals.map.aio('!"#$%&')]

    assert [value for value, _ in asyncio.run(body())] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("short", r"got lists of 3; it has to return a list of as many, and returned 2 items"),
        ("text", r"and returned str"),
        ("raise", "for all of you"),
    ],
)
def test_a_batch_that_fails_fails_for_everyone(serve: Serve, kind: str, text: str) -> None:
    errors = together("strange", [(kind,)] * 3)
    assert all(isinstance(error, Exception) and text in str(error) for error in errors), errors


def test_an_exception_in_the_list_is_one_callers(serve: Serve) -> None:
    results = together("strange", [("one",)] * 3)
    assert sorted(str(each) for each in results) == ["'mine'", "0", "2"]


def test_a_batch_that_takes_too_long_is_stopped(serve: Serve) -> None:
    errors = together("slow", [(30.0,), (0.1,)])
    assert all(isinstance(error, FunctionTimeoutError) for error in errors), errors
    assert function("slow").remote(0.0) == 0.0


def test_other_batches_for_a_handle(serve: Serve) -> None:
    single = function("doubled").with_batching(max_batch_size=1, wait_ms=0)
    assert single.remote(1) == (2, 1)
    with pytest.raises(InvalidError, match="max_batch_size=0"):
        function("doubled").with_batching(max_batch_size=0, wait_ms=0)
