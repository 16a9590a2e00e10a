"""Point 5: what goes wrong in a function, row by row: the caller's answer, the terminal, the log, and nobody else."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from e2e.http_kit import HOLD, Held, Many, app_log, function_status
from zygo.testing.harness import Place, Serve, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAM = (
    """
import ctypes, os, sys, time
import zygo

app = zygo.App("faults")
"""
    + HOLD
    + """

@app.function()
@zygo.fastapi_endpoint()
def bystander():
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function()
@zygo.asgi_app()
def factory():
    raise LookupError("no such database")


@app.function()
@zygo.asgi_app()
def nothing():
    return 42


@app.function()
@zygo.asgi_app()
def lifespan():
    from contextlib import asynccontextmanager
    from fastapi import FastAPI

    @asynccontextmanager
    async def run(app):
        raise LookupError("the pool is closed")
        yield

    return FastAPI(lifespan=run)


@app.function()
@zygo.fastapi_endpoint()
def handler(secret: str = "s3cret"):
    print("about to fail")
    return {}[secret]


@app.function()
@zygo.asgi_app()
def bare():
    async def answer(scope, receive, send):
        raise ZeroDivisionError("in a bare application")
    return answer


@app.function()
@zygo.fastapi_endpoint()
def crash(how: str):
    print("crashing", flush=True)
    if how == "exit":
        os._exit(3)
    elif how == "segv":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "sysexit":
        sys.exit(4)
    return "alive"


@app.function()
@zygo.asgi_app()
def half():
    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half of it", "more_body": True})
        await receive()
        os._exit(3)
    return answer


@app.function(timeout=1)
@zygo.fastapi_endpoint()
async def loop():
    while True:
        pass


@app.function(timeout=1)
@zygo.fastapi_endpoint()
def thread():
    while True:
        pass


@app.function(timeout=1)
@zygo.fastapi_endpoint()
def late():
    time.sleep(600)


@app.function(memory=(64, 128))
@zygo.fastapi_endpoint()
def hog(mebibytes: int = 0):
    return len(bytearray(b"x") * (mebibytes * 2**20))


@app.function(timeout=4, memory=(64, 1024))
@zygo.fastapi_endpoint()
def bomb():
    while True:
        try:
            os.fork()
        except OSError:
            pass


@app.function()
@zygo.fastapi_endpoint()
def ask(how: str):
    if how == "breakpoint":
        breakpoint()
    elif how == "input":
        return input("name? ")
    elif how == "pdb":
        import pdb
        pdb.set_trace()
    elif how == "read":
        return sys.stdin.read()


held = app.function(name="held")(zygo.asgi_app()(hold))
"""
)


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("faults") / "faults.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as found:
        yield found
    shared_place.settle()


@pytest.fixture(autouse=True)
def nobody_else_suffers(serve: Serve) -> Iterator[None]:
    """Another function of the same app answers before and after, from the same container."""
    serve.skip()
    before = serve.get("bystander").json()
    yield
    assert serve.get("bystander").json() == before
    assert serve.running


def told(serve: Serve, *texts: str) -> None:
    """Each text is in the terminal and in the app's log file."""
    for text in texts:
        until(partial(_contains, lambda: serve.text, text), 20.0, f"{text!r} in the terminal:\n{serve.text}")
        until(partial(_contains, lambda: app_log(serve.place, "faults"), text), 20.0, f"{text!r} in the log file")


def _contains(where: Callable[[], str], text: str) -> bool:
    return text in where()


def test_a_failure_in_a_factory(serve: Serve) -> None:
    answer = serve.get("factory")
    assert answer.status_code == 502
    assert answer.text.startswith("zygo: the function could not be started; its log has the reason\n")
    assert "LookupError: no such database" in answer.text
    assert "faults.py" in answer.text
    assert "/zygo/guest/" not in answer.text, "the frames before the user's own say nothing to them"
    assert answer.headers["x-request-id"] in answer.text
    told(serve, "LookupError: no such database", 'raise LookupError("no such database")')


def test_a_failure_in_the_lifespan(serve: Serve) -> None:
    answer = serve.get("lifespan")
    assert answer.status_code == 502
    assert "LookupError: the pool is closed" in answer.text
    told(serve, "LookupError: the pool is closed")


def test_a_factory_that_returns_no_application(serve: Serve) -> None:
    answer = serve.get("nothing")
    assert answer.status_code == 502
    assert "'nothing' returned int, which is not an ASGI application" in answer.text
    told(serve, "which is not an ASGI application")


def test_refusals_are_json_for_who_prefers_it(serve: Serve) -> None:
    answer = serve.get("factory", headers={"Accept": "application/json"})
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["status"] == 502
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "LookupError" in error["details"]


def test_an_exception_in_the_handler(serve: Serve) -> None:
    first = serve.get("handler")
    assert first.status_code == 500
    assert first.text.startswith("Internal Server Error\n")
    assert "KeyError: 's3cret'" in first.text
    assert "faults.py" in first.text
    told(serve, "about to fail", "KeyError: 's3cret'", "return {}[secret]")
    serve.wait_for(r"GET /  500 ")
    assert serve.get("handler", params={"secret": "other"}).headers["server-timing"].startswith("start;desc=warm")


def test_an_exception_in_a_bare_application(serve: Serve) -> None:
    answer = serve.get("bare")
    assert answer.status_code == 500
    told(serve, "ZeroDivisionError: in a bare application")


@pytest.mark.parametrize(
    # abort(3) ends in a forced SIGSEGV: pid 1 of a namespace gets no signal of its own whose action is the default one.
    ("how", "reason"),
    [("exit", "exit status 3"), ("segv", "killed by SIGSEGV"), ("abort", "killed by SIG")],
)
def test_a_crash_in_the_middle_of_a_request(serve: Serve, how: str, reason: str) -> None:
    answer = serve.get("crash", params={"how": how})
    assert answer.status_code == 502
    assert answer.text.startswith("zygo: the container died while it served this request\n")
    assert reason in answer.text
    told(serve, f"The container of crash died: {reason}")
    assert serve.get("crash", params={"how": "not"}).json() == "alive"


def test_sys_exit_in_a_handler_is_one_failed_request(serve: Serve) -> None:
    answer = serve.get("crash", params={"how": "sysexit"})
    assert answer.status_code in (500, 502)
    assert serve.get("crash", params={"how": "not"}).json() == "alive"


def test_a_crash_in_the_middle_of_an_answer_cuts_the_connection(serve: Serve) -> None:
    import httpx

    with pytest.raises(httpx.RemoteProtocolError):
        serve.post("half", content=b"x" * 200_000)
    told(serve, "The container of half died: exit status 3")


@pytest.mark.parametrize("name", ["loop", "thread", "late"])
def test_an_endless_loop_ends_at_the_timeout(serve: Serve, name: str) -> None:
    answer = serve.get(name)
    assert answer.status_code == 504
    assert answer.text.startswith("zygo: the function did not finish within its timeout of 1 s\n")
    told(serve, f"{name} was stopped: a request took longer than its timeout of 1 s")
    until(lambda: function_status(serve.place, name)["containers"] == 0)


def test_a_memory_hog_is_killed_and_told_why(serve: Serve) -> None:
    small = serve.get("hog", params={"mebibytes": 1})
    assert small.json() == 2**20
    answer = serve.get("hog", params={"mebibytes": 400})
    assert answer.status_code == 502
    assert "it used more than its 128 MiB of memory" in answer.text
    told(serve, "it used more than its 128 MiB of memory")
    assert serve.get("hog", params={"mebibytes": 1}).status_code == 200


@pytest.mark.alone  # it counts the processes of the machine
def test_a_fork_bomb_leaves_the_machine_usable_and_is_gone_after_its_timeout(serve: Serve) -> None:
    status = serve.place.status()
    assert status is not None
    if not status["limits"].startswith("cgroups") and status["sandbox"] == "none":
        pytest.skip("without control groups and without a sandbox nothing counts processes")
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(serve.get("bomb").status_code))
    asking.start()
    before = len(os.listdir("/proc"))
    until(lambda: len(os.listdir("/proc")) > before + 300, 20.0, "the bomb")
    while asking.is_alive():
        assert serve.get("bystander").status_code == 200
    asking.join()
    # Which of its limits it meets first depends on the machine.
    assert answers[0] in (502, 504)
    until(lambda: function_status(serve.place, "bomb")["containers"] == 0)
    until(lambda: len(os.listdir("/proc")) < before + 100, 20.0, "the end of every process of it")


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("breakpoint", 500, "RuntimeError: breakpoint() needs a terminal"),
        ("input", 500, "EOFError"),
        ("pdb", 500, "BdbQuit"),
        ("read", 200, '""'),
    ],
)
def test_asking_a_person_never_hangs(serve: Serve, how: str, status: int, reason: str) -> None:
    answer = serve.get("ask", params={"how": how}, timeout=20)
    assert answer.status_code == status
    assert reason in answer.text
    if status == 500:
        told(serve, reason)


def test_a_client_that_goes_away_is_seen_by_the_application(serve: Serve) -> None:
    held = Held(serve.url("held"))
    assert held.container
    held.leave()
    told(serve, "the caller left")
    serve.wait_for(r"POST /  499 ")


def test_a_client_that_goes_away_while_it_waits_leaves_the_line(tmp_path: Path, shared_place: Place) -> None:
    text = PROGRAM.replace('"faults"', '"leaving"').replace('name="held"', 'name="held", max_containers=1')
    path = tmp_path / "leaving.py"
    path.write_text(text)
    with shared_place.serve(path) as other, Many(other.url("held"), 1) as [serving]:
        assert serving.container
        with Many(other.url("held"), 2) as waiting:
            until(lambda: function_status(shared_place, "held", "leaving") == {"containers": 1, "waiting": 2})
            waiting[0].leave()
            until(lambda: function_status(shared_place, "held", "leaving")["waiting"] == 1)
            serving.finish()
            assert waiting[1].finish()


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(tmp_path: Path) -> None:
    path = tmp_path / "full.py"
    path.write_text(
        PROGRAM.replace('"faults"', '"full"').replace('name="held"', 'name="held", max_containers=1'),
    )
    with Place({"ZYGO_MAX_WAITING": "2"}) as own:
        with own.serve(path) as found, Many(found.url("held"), 1) as held:
            assert held[0].container
            held += [Held(found.url("held")) for _ in range(2)]
            until(lambda: function_status(own, "held") == {"containers": 1, "waiting": 2})
            refused = found.get("held")
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "2 requests wait for this function already" in refused.text
            assert found.get("bystander").status_code == 200
            threads = [threading.Thread(target=each.finish) for each in held]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert function_status(own, "held")["waiting"] == 0
        own.settle()


BROKEN = """
import zygo

app = zygo.App("broken")

if {condition}:
    raise ImportError("this module needs a better machine")


@app.function()
@zygo.fastapi_endpoint()
def f():
    return 1
"""


@pytest.mark.parametrize("where", ["on this machine", "in the container"])
def test_a_module_that_does_not_import_is_not_served(where: str, tmp_path: Path, shared_place: Place) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(condition="zygo.is_local()" if where == "on this machine" else "not zygo.is_local()"))
    with shared_place.serve(path, wait=False) as broken:
        assert broken.exit_status(60) == 1
        assert "ImportError: this module needs a better machine" in broken.text
        assert 'raise ImportError("this module' in broken.text
        assert "importlib" not in broken.text, "the frames before the user's own say nothing to them"
        assert "Serving..." not in broken.text
