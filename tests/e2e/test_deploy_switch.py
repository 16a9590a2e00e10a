"""From one revision to the next: who answers, what finishes, and how many containers there are meanwhile."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import connect

from e2e.deploy_kit import answer, deploying, number, refused, versions
from e2e.http_kit import Held, app_log, ask
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from websockets.sync.connection import Connection

    from zygo.testing.harness import Place

SECONDS = 60.0

PROGRAM = """
import time
import zygo

app = zygo.App("switch")
VERSION = {version}


async def served(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("up", VERSION, flush=True)
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        print("down", VERSION, flush=True)
        await send({{"type": "lifespan.shutdown.complete"}})
    elif scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        while (message := await receive())["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": f"{{VERSION}} {{message['text']}}"}})
    else:
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"%d\\n" % VERSION, "more_body": True}})
        while (message := await receive()).get("more_body"):
            pass
        await send({{"type": "http.response.body", "body": b"done\\n"}})


@app.function({options})
@zygo.concurrent(max_inputs={inputs})
@zygo.asgi_app()
def switch():
    {start}
    return served
"""


def program(version: int, options: str = "max_containers=1", inputs: int = 10, start: str = "pass") -> str:
    return PROGRAM.format(version=version, options=options, inputs=inputs, start=start)


def lives(place: Place) -> list[tuple[str, int]]:
    """The beginnings and ends of containers, in their order: ("up", version) and ("down", version)."""
    found = re.findall(r"^switch stdout (up|down) (\d+)$", app_log(place, "switch"), re.MULTILINE)
    return [(what, int(version)) for what, version in found]


def wait_for(place: Place, what: str, version: int, before: int = 0) -> None:
    until(lambda: (what, version) in lives(place)[before:], SECONDS, f"{what} {version}")


def most(events: list[tuple[str, int]]) -> int:
    """Containers at the same time, at most."""
    peak = now = 0
    for what, _ in events:
        now += 1 if what == "up" else -1
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("inputs", [1, 10])
def test_rolling_at_max_containers_while_a_stream_is_in_flight(
    deploys: Place, write: Callable[..., Path], inputs: int
) -> None:
    seen = len(lives(deploys))
    url = deploys.deploy(write(program(1, inputs=inputs)))["urls"]["switch"]
    with contextlib.closing(_Leaving(Held(url))) as stream:
        assert stream.held.container == "1"
        deploys.deploy(write(program(2, inputs=inputs)))
        assert [Held(url).finish() for _ in range(3)] == ["2", "2", "2"]
        assert ("down", 1) not in lives(deploys)[seen:]
        assert stream.held.finish() == "1"
    wait_for(deploys, "down", 1, seen)
    assert most(lives(deploys)[seen:]) == 2
    assert Held(url).finish() == "2"


def test_a_second_rolling_deploy_while_a_stream_of_the_first_revision_is_open(
    deploys: Place, write: Callable[..., Path]
) -> None:
    """One container more than max_containers, and not one for each revision that is still at work."""
    seen = len(lives(deploys))
    url = deploys.deploy(write(program(1)))["urls"]["switch"]
    with contextlib.closing(_Leaving(Held(url))) as stream:
        deploys.deploy(write(program(2)))
        assert Held(url).finish() == "2"
        deploys.deploy(write(program(3)))
        assert Held(url).finish() == "3"
        wait_for(deploys, "up", 3, seen)  # the answer may be here before the log's line is
        events = lives(deploys)[seen:]
        assert ("down", 1) not in events
        assert events.index(("down", 2)) < events.index(("up", 3))
        assert stream.held.finish() == "1"
    wait_for(deploys, "down", 1, seen)
    assert most(lives(deploys)[seen:]) == 2


class _Leaving:
    def __init__(self, held: Held) -> None:
        self.held = held

    def close(self) -> None:
        self.held.leave()


def websocket(url: str) -> Connection:
    return connect(url.replace("http://", "ws://"), open_timeout=SECONDS, proxy=None)


def says(connection: Connection, text: str) -> str:
    connection.send(text)
    return str(connection.recv(SECONDS))


def test_websockets_of_the_old_revision_go_on(deploys: Place, write: Callable[..., Path]) -> None:
    url = deploys.deploy(write(program(1)))["urls"]["switch"]
    with websocket(url) as old:
        assert says(old, "a") == "1 a"
        deploys.deploy(write(program(2)))
        with websocket(url) as new:
            assert says(new, "b") == "2 b"
            assert says(old, "c") == "1 c"


def test_what_does_not_end_within_the_timeout_is_ended(deploys: Place, write: Callable[..., Path]) -> None:
    """A revision does not live for ever because somebody holds a stream of it open."""
    seen = len(lives(deploys))
    url = deploys.deploy(write(program(1, "max_containers=1, timeout=3")))["urls"]["switch"]
    with contextlib.closing(_Leaving(Held(url))) as stream:
        assert stream.held.container == "1"
        deploys.deploy(write(program(2, "max_containers=1, timeout=3")))
        until(lambda: len([p for p in deploys.processes() if p.kind == "revision"]) == 1, SECONDS, "the old one's end")
        assert Held(url).finish() == "2"
    assert most(lives(deploys)[seen:]) == 2


def test_recreate_never_has_both_and_loses_nothing(deploys: Place, write: Callable[..., Path]) -> None:
    seen = len(lives(deploys))
    url = deploys.deploy(write(program(1)))["urls"]["switch"]
    with contextlib.closing(_Leaving(Held(url))) as stream:
        assert stream.held.container == "1"
        process = deploying(deploys, write(program(2, start="time.sleep(0.5)")), "--strategy", "recreate")
        assert process.stdout is not None
        said = [next(process.stdout) for _ in range(1)]
        while "Stopping the containers" not in said[-1]:
            said.append(next(process.stdout))
        with contextlib.closing(_Leaving(Held(url))) as meanwhile:
            assert stream.held.finish() == "1"
            wait_for(deploys, "down", 1, seen)
            assert not meanwhile.held.answered()
            assert meanwhile.held.finish() == "2", "it waited for the new one"
    rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest
    wait_for(deploys, "up", 2, seen)
    events = lives(deploys)[seen:]
    assert events.index(("down", 1)) < events.index(("up", 2))
    assert most(events) == 1


def test_recreate_of_one_that_cannot_start_brings_the_old_one_back(deploys: Place, write: Callable[..., Path]) -> None:
    seen = len(lives(deploys))
    url = deploys.deploy(write(program(1)))["urls"]["switch"]
    assert Held(url).finish() == "1"
    answers: list[str] = []
    broken = write(program(2, start='time.sleep(0.3); raise ValueError("a bad day")'))
    process = deploying(deploys, broken, "--strategy", "recreate")
    wait_for(deploys, "down", 1, seen)
    thread = threading.Thread(target=lambda: answers.append(Held(url).finish()))
    thread.start()
    said, _ = process.communicate(timeout=SECONDS)
    thread.join(SECONDS)
    assert process.returncode == 1
    assert "a bad day" in said
    assert "v1 goes on" in said
    assert answers == ["1"], "whoever came meanwhile waited, and was answered by the old one"
    assert versions(deploys, "switch") == [1]


def test_rolling_and_then_recreate_with_streams_of_both_in_flight(deploys: Place, write: Callable[..., Path]) -> None:
    """The first one drains still when the second change stops everything: nothing of either is left behind."""
    url = deploys.deploy(write(program(1)))["urls"]["switch"]
    with contextlib.closing(_Leaving(Held(url))) as first:
        assert first.held.container == "1"
        deploys.deploy(write(program(2)))
        with contextlib.closing(_Leaving(Held(url))) as second:
            assert second.held.container == "2"
            process = deploying(deploys, write(program(3)), "--strategy", "recreate")
            assert process.stdout is not None
            assert any("Stopping the containers" in line for line in iter(process.stdout.readline, ""))
            assert (first.held.finish(), second.held.finish()) == ("1", "2")
    rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest
    assert Held(url).finish() == "3"
    until(lambda: len([p for p in deploys.processes() if p.kind == "revision"]) == 1, SECONDS, "the old ones' end")
    until(lambda: len(list((deploys.data / "revisions").iterdir())) <= 2, SECONDS, "the end of their files")


EXTRA = """

@app.function()
@zygo.fastapi_endpoint()
def extra():
    return "extra"
"""


def test_functions_come_and_go(deploys: Place, write: Callable[..., Path]) -> None:
    first = deploys.deploy(write(number(1, "parts")))
    assert set(first["urls"]) == {"number"}
    second = deploys.deploy(write(number(2, "parts", more=EXTRA)))
    assert answer(second["urls"]["extra"]) == "extra"
    port = deploys.status()["gateway"]["port"]  # type: ignore[index]
    by_name = f"http://local--parts-extra.localhost:{port}"
    assert answer(by_name) == "extra"
    third = deploys.deploy(write(number(3, "parts")))
    assert set(third["urls"]) == {"number"}
    assert ask(by_name).status_code == 404
    assert answer(first["urls"]["number"]) == 3
    assert answer(f"http://local--parts-extra-v2.localhost:{port}") == "extra", "its preview still has it"
    fourth = deploys.deploy(write(number(4, "parts", more=EXTRA)))
    assert fourth["urls"] == second["urls"]


def test_a_failed_recreate_of_nothing_is_like_any_other(deploys: Place, write: Callable[..., Path]) -> None:
    said = refused(deploys, "deploy", str(write(program(1, start="raise ValueError(1)"))), "--strategy", "recreate")
    assert "Nothing was deployed." in said
