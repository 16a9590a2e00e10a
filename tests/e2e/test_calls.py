"""Calling functions from Python, as a program on the machine does: one served app, called from this process."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import zygo
from zygo.errors import (
    ContainerError,
    DeserializationError,
    FunctionTimeoutError,
    InvalidError,
    NotFoundError,
    SerializationError,
)
from zygo.testing.harness import Place, Serve, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import asyncio
import os
import threading
import time

import zygo

app = zygo.App("called")
_tries = {}


class Odd(Exception):
    def __init__(self, code, *, hint):
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint


@app.function()
def square(x, *, plus=0):
    return x * x + plus


@app.function()
async def square_async(x):
    await asyncio.sleep(0)
    return x * x


@app.function()
def where():
    return os.getpid(), threading.current_thread() is threading.main_thread(), zygo.is_local()


@app.function()
def ids():
    return zygo.current_function_call_id(), zygo.current_input_id()


@app.function()
def fails(kind):
    if kind == "chained":
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("custom error") from error
    if kind == "odd":
        raise Odd(7, hint="turn it off and on")
    if kind == "local":
        class Unheard(Exception):
            pass
        error = Unheard("lost words")
        error.lock = threading.Lock()
        raise error
    raise SystemExit(3)


@app.function()
def unsendable():
    return threading.Lock()


@app.function()
def numbers(count):
    for number in range(count):
        yield number
    if count == 3:
        raise ValueError("after three")


@app.function()
async def numbers_async(count):
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@app.function()
def blobs(count, size):
    try:
        for number in range(count):
            print("made", number, flush=True)
            yield bytes(size)
    finally:
        print("generator closed", flush=True)


seen = []


@app.function(timeout=1, max_containers=1)
def slow(seconds):
    seen.append(seconds)
    print("slow began", flush=True)
    try:
        time.sleep(seconds)
    except BaseException as error:
        print("slow ended by", type(error).__name__, flush=True)
        raise
    return len(seen)


@app.function(timeout=1)
def stubborn():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


@app.function()
@zygo.concurrent(max_inputs=4)
def neighbours(seconds):
    print("neighbour began", seconds, flush=True)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
    except BaseException as error:
        print("neighbour ended by", type(error).__name__, flush=True)
        raise
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function()
@zygo.concurrent(max_inputs=4)
async def neighbours_async(seconds):
    print("async neighbour began", seconds, flush=True)
    try:
        await asyncio.sleep(seconds)
    except BaseException as error:
        print("async neighbour ended by", type(error).__name__, flush=True)
        raise
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function(max_containers=1, retries=zygo.Retries(max_retries=2, initial_delay=0, max_delay=1))
def third_time(key):
    _tries[key] = _tries.get(key, 0) + 1
    if _tries[key] < 3:
        raise RuntimeError(f"attempt {_tries[key]}")
    return _tries[key]


@app.function()
def dies_at(x, at):
    if x == at:
        os._exit(3)
    return x


@app.function(single_use_containers=True)
def once():
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function()
def size_of(data):
    return len(data), bytes(reversed(data[-3:]))


@app.function()
async def echo_async(data):
    return data


@app.function(memory=(100, 400))
def passes(data):
    return data


@app.function()
def outer(n):
    return sum(square.map(range(n))) + square.remote(n)


@app.function()
def handle(function, x):
    return function.remote(x)


@app.function()
def through_the_door(path):
    import http.client, socket
    connection = http.client.HTTPConnection("zygo")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/.zygo/server/calls.sock")
    connection.request("GET", path)
    return os.listdir("/.zygo/server"), connection.getresponse().status


@app.function()
@zygo.fastapi_endpoint()
def web(x: int):
    return {"square": square.remote(x), "where": where.remote()[2]}


@app.function()
@zygo.fastapi_endpoint()
async def web_async(x: int):
    return {"squares": [y async for y in square.map.aio(range(x))]}
"""


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "program.py").write_text(PROGRAM)
    with Place() as place:
        before = os.environ.get("ZYGO_RUNTIME_DIR")
        os.environ["ZYGO_RUNTIME_DIR"] = str(place.runtime)
        try:
            with place.serve(folder / "program.py") as serving:
                yield serving
            place.settle()
        finally:
            os.environ.pop("ZYGO_RUNTIME_DIR")
            if before is not None:
                os.environ["ZYGO_RUNTIME_DIR"] = before


@pytest.fixture(scope="module")
def f(serve: Serve) -> Functions:
    return Functions()


class Functions:
    """`f.square` is `zygo.Function.from_name("called", "square")`."""

    def __getattr__(self, name: str) -> Any:
        return zygo.Function.from_name("called", name)


def test_results(f: Functions) -> None:
    assert f.square.remote(7) == 49
    assert f.square.remote(7, plus=1) == 50
    assert f.square_async.remote(8) == 64
    _, on_main_thread, local = f.where.remote()
    assert on_main_thread
    assert not local


def test_async_results(f: Functions) -> None:
    async def program() -> None:
        assert await f.square.remote.aio(7) == 49
        assert await asyncio.gather(*(f.square.remote.aio(i) for i in range(20))) == [i * i for i in range(20)]
        assert [i async for i in f.numbers.remote_gen.aio(4)] == [0, 1, 2, 3]
        assert [i async for i in f.square.map.aio(range(50))] == [i * i for i in range(50)]

    asyncio.run(program())


def test_a_blocking_call_in_a_running_loop_warns_and_works(f: Functions) -> None:
    async def program() -> None:
        with pytest.warns(zygo.exception.AsyncUsageWarning, match=r"await square\.remote\.aio"):
            assert f.square.remote(3) == 9

    asyncio.run(program())


def test_a_fresh_program_calls_and_ends(serve: Serve) -> None:
    program = "import zygo; f = zygo.Function.from_name('called', 'square'); print(f.remote(6), sum(f.map(range(100))))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=serve.place.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("36 328350\n", "")


def test_a_forked_child_calls_too(f: Functions) -> None:
    assert f.square.remote(2) == 4
    pid = os.fork()
    if pid == 0:
        os._exit(0 if f.square.remote(3) == 9 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_generators(f: Functions) -> None:
    assert list(f.numbers.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert list(f.numbers_async.remote_gen(5)) == [0, 1, 2, 3, 4]
    items = f.numbers.remote_gen(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="after three"):
        next(items)


def test_a_generator_is_held_back_and_closed(f: Functions, serve: Serve) -> None:
    items = f.blobs.remote_gen(1000, 1_000_000)
    next(items)
    assert serve.seen("made 500") is None
    items.close()
    serve.wait_for("generator closed", anywhere=True)


def test_the_wrong_method(f: Functions) -> None:
    with pytest.raises(InvalidError, match=r"is a generator. Use: for item in numbers.remote_gen"):
        f.numbers.remote(3)
    with pytest.raises(InvalidError, match=r"is not a generator. Use: square.remote"):
        list(f.square.remote_gen(3))
    with pytest.raises(InvalidError, match=r"is a web function.*Call its URL http"):
        f.web.remote(3)
    with pytest.raises(InvalidError, match="is a method"):
        zygo.Function.from_name("called", "Model.predict")
    with pytest.raises(NotFoundError, match=r"has no function 'nothing'. It has: .*square"):
        f.nothing.remote()
    with pytest.raises(NotFoundError, match=r"No app called 'other'.*There are: called"):
        zygo.Function.from_name("other", "square").remote(1)
    assert f.web.get_web_url().startswith("http://")
    assert f.square.get_web_url() is None


def test_exceptions_come_as_themselves_with_the_remote_lines(f: Functions) -> None:
    with pytest.raises(ValueError, match="custom error") as caught:
        f.fails.remote("chained")
    shown = "".join(traceback.format_exception(caught.value))
    assert 'raise ValueError("custom error") from error' in shown
    assert "program.py" in shown
    assert '{}["key"]' in shown
    assert isinstance(caught.value.__cause__, KeyError)
    assert "zygo/guest" not in shown
    with pytest.raises(SystemExit):
        f.fails.remote("exit")


def test_exceptions_that_cannot_travel(f: Functions) -> None:
    with pytest.raises(SerializationError, match=r"(?s)Unheard, which cannot be pickled in the container.*lost words"):
        f.fails.remote("local")
    with pytest.raises(DeserializationError, match=r"(?s)Odd.*needs the module 'program'.*hint=.turn it off"):
        f.fails.remote("odd")
    with pytest.raises(SerializationError, match=r"The result of unsendable cannot be pickled in the container"):
        f.unsendable.remote()
    with pytest.raises(SerializationError, match=r"The arguments of square cannot be pickled on the caller's side"):
        f.square.remote(threading.Lock())


def test_a_class_the_container_has_not(f: Functions) -> None:
    with pytest.raises(DeserializationError, match=r"arguments of size_of.*module 'test_calls'.*add it to the image"):
        f.size_of.remote(Functions())


def test_a_timeout_ends_the_code_and_the_container_goes_on(f: Functions, serve: Serve) -> None:
    with pytest.raises(FunctionTimeoutError, match=r"slow did not finish within its timeout of 1 s"):
        f.slow.remote(600)
    serve.wait_for("slow ended by InputCancellation", anywhere=True)
    assert f.slow.remote(0) == 2, "the same container, which remembers both"
    assert f.slow.get_current_stats().num_total_runners == 1


def test_code_that_does_not_obey_loses_its_container(f: Functions, serve: Serve) -> None:
    with pytest.raises(FunctionTimeoutError):
        f.stubborn.remote()
    serve.wait_for("stubborn went on for 5 s after it was stopped", anywhere=True)
    with pytest.raises(FunctionTimeoutError):
        f.stubborn.remote()


def test_a_caller_that_leaves_stops_the_code(f: Functions, serve: Serve) -> None:
    async def program() -> None:
        serve.skip()
        task = asyncio.create_task(f.neighbours.remote.aio(60))
        await asyncio.to_thread(serve.wait_for, "neighbour began 60")
        other = asyncio.create_task(f.neighbours.remote.aio(1.5))
        await asyncio.to_thread(serve.wait_for, "neighbour began 1.5")
        task.cancel()
        await asyncio.to_thread(serve.wait_for, "neighbour ended by InputCancellation")
        assert (await other).startswith("c-")

    asyncio.run(program())


def test_a_caller_that_leaves_stops_async_code(f: Functions, serve: Serve) -> None:
    async def program() -> None:
        serve.skip()
        task = asyncio.create_task(f.neighbours_async.remote.aio(60))
        await asyncio.to_thread(serve.wait_for, "async neighbour began 60")
        other = asyncio.create_task(f.neighbours_async.remote.aio(1.5))
        await asyncio.to_thread(serve.wait_for, "async neighbour began 1.5")
        task.cancel()
        await asyncio.to_thread(serve.wait_for, "async neighbour ended by CancelledError")
        assert (await other).startswith("c-")

    asyncio.run(program())


def test_concurrent_inputs_share_a_container(f: Functions) -> None:
    assert len(set(f.neighbours_async.map([0.3] * 4))) == 1


def test_map(f: Functions) -> None:
    assert list(f.square.map(range(1000))) == [i * i for i in range(1000)]
    assert sorted(f.square.map(range(300), order_outputs=False)) == [i * i for i in range(300)]
    assert list(f.square.map([1, 2], kwargs={"plus": 1})) == [2, 5]
    assert list(f.square.starmap([(1,), (2,)])) == [1, 4]
    assert list(f.size_of.map([b"", b"abc"])) == [(0, b""), (3, b"cba")]
    assert f.square.for_each(range(10)) is None
    assert list(f.square.map([])) == []


def test_a_map_takes_its_inputs_as_it_needs_them(f: Functions) -> None:
    taken = 0

    def inputs() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = f.square.map(inputs())
    assert [next(results) for _ in range(3)] == [1, 4, 9]
    results.close()
    assert taken < 3000


def test_a_map_gives_each_input_its_own_error(f: Functions) -> None:
    with pytest.raises(ValueError, match="custom error"):
        list(f.fails.map(["chained"] * 3))
    results = list(f.dies_at.starmap([(i, 40) for i in range(100)], return_exceptions=True))
    assert [r for r in results if not isinstance(r, Exception)] == [i for i in range(100) if i != 40]
    assert isinstance(results[40], ContainerError)
    f.fails.for_each(["chained"], ignore_exceptions=True)


def test_an_error_of_the_inputs_is_the_callers(f: Functions) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(f.square.map(inputs()))


def test_retries(f: Functions) -> None:
    assert f.third_time.remote("a") == 3
    assert list(f.third_time.map(["b", "c"])) == [3, 3]


def test_a_container_that_dies_is_told(f: Functions) -> None:
    with pytest.raises(ContainerError, match=r"called\.dies_at: the container died.*exit status 3"):
        f.dies_at.remote(1, 1)


def test_single_use_containers(f: Functions) -> None:
    assert len({f.once.remote() for _ in range(3)}) == 3
    assert len(set(f.once.map([], []))) == 0


def test_functions_call_functions(f: Functions, serve: Serve) -> None:
    assert f.outer.remote(5) == 30 + 25
    assert serve.get("web", params={"x": 4}).json() == {"square": 16, "where": False}
    assert serve.get("web_async", params={"x": 4}).json() == {"squares": [0, 1, 4, 9]}
    assert f.handle.remote(f.square, 6) == 36


def test_ten_megabytes_there_and_back(f: Functions) -> None:
    data = os.urandom(10_000_000)
    assert f.size_of.remote(data) == (len(data), bytes(reversed(data[-3:])))
    assert [len(item) for item in f.blobs.remote_gen(2, 10_000_000)] == [10_000_000] * 2


def test_large_values_of_async_functions_and_in_maps(f: Functions) -> None:
    data = os.urandom(5_000_000)
    assert f.echo_async.remote(data) == data
    assert list(f.size_of.map([data, b"abc", data])) == [
        (5_000_000, data[:-4:-1]),
        (3, b"cba"),
        (5_000_000, data[:-4:-1]),
    ]


def test_a_large_value_is_held_once_in_its_container(f: Functions) -> None:
    # The container may have 400 MiB: the value alone takes 250, and it is there neither when it comes nor when it goes a
    # second time.
    data = bytes(250 * 2**20)
    assert f.passes.remote(data) == data


def test_a_large_value_is_held_once_by_its_caller(f: Functions, serve: Serve) -> None:
    # What is sent, and what comes back: neither is there a second time, pickled.
    program = """
import zygo
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM:"))
passes = zygo.Function.from_name("called", "passes")
passes.remote(b"")
before, data = peak(), b"x" * (100 << 20)
assert passes.remote(data) == data
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=serve.place.environment, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert 195 <= int(done.stdout) < 250


def test_a_large_value_that_cannot_be_read(f: Functions) -> None:
    with pytest.raises(DeserializationError, match="module 'test_calls'"):
        f.size_of.remote((Functions(), bytes(5_000_000)))
    assert f.size_of.remote(b"") == (0, b"")


def test_ids(f: Functions) -> None:
    call, identifier = f.ids.remote()
    assert call.startswith("fc-")
    assert identifier.startswith("in-")
    assert zygo.current_function_call_id() is None


def test_the_autoscaler(f: Functions) -> None:
    assert f.square.update_autoscaler(min_containers=2)["min_containers"] == 2
    until(lambda: f.square.get_current_stats().num_total_runners >= 2, what="two containers")
    with pytest.raises(InvalidError, match="min_containers=2 is above max_containers=1"):
        f.square.update_autoscaler(max_containers=1)
    assert f.square.update_autoscaler(min_containers=0)["min_containers"] == 0


def test_a_save_changes_what_is_called(f: Functions, serve: Serve) -> None:
    assert f.square.remote(3) == 9
    serve.save("program.py", PROGRAM.replace("return x * x + plus", "return -x"))
    serve.wait_for("Updated called")
    assert f.square.remote(3) == -3
    serve.save("program.py", PROGRAM)
    serve.wait_for("Updated called")
    assert f.square.remote(3) == 9


def test_the_doors_open_to_functions_alone(f: Functions, serve: Serve) -> None:
    identifier = f.square.object_id
    assert identifier.startswith("fu-")
    gateway = f"http://127.0.0.1:{httpx.URL(serve.hostname_url('web')).port}/v1/functions?app=called&name=square"
    for host in (identifier, "zygo"):
        assert httpx.get(gateway, headers={"Host": host}).status_code == 404
    assert f.through_the_door.remote("/v1/functions?app=called&name=square") == (["calls.sock"], 200)
    for path in ("/v1/status", "/v1/sessions", "/v1/apps", "/v1/stop"):
        assert f.through_the_door.remote(path) == (["calls.sock"], 404)
    socket = serve.place.runtime / "calls.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((serve.place.runtime / "doors").stat().st_mode) & 0o007 == 0


def test_a_deployed_app_of_the_same_name(f: Functions, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "deployed.py"
    path.write_text('import zygo\napp = zygo.App("called")\n\n@app.function()\ndef square(x):\n    return "deployed"\n')
    served = f.square.object_id
    serve.place.deploy(path)
    assert f.square.remote(4) == "deployed", "by its name the deployed one is meant"
    assert f.square.object_id != served
    assert serve.get("web", params={"x": 4}).json()["square"] == 16, "an app that is served calls its own functions"
    assert serve.place.zygo("app", "stop", "called", "--yes").code == 0
    assert f.square.remote(4) == 16


def test_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(zygo.exception.ConnectionError, match=r"No zygo server answers at .*zygo server start"):
        zygo.Function.from_name("a", "b").remote()
