"""The control plane's client and the server's start, against a real server process on a unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from zygo import errors
from zygo.sdk import client as client_module
from zygo.sdk import launch
from zygo.sdk.client import Client
from zygo.sdk.launch import Place

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")
TESTS = str(Path(__file__).parents[1])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place for a fake server, which is gone afterwards."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("PYTHONPATH", TESTS)
    monkeypatch.setenv("ZYGO_DATA_DIR", str(data))
    monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(tmp_path / "run"))
    yield Place(tmp_path / "run" / "control.sock", data, module="fake_server")
    for pid in {entry["pid"] for entry in record(data, "start")}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        assert asyncio.run(launch.gone(pid, 5.0))


def record(data: Path, kind: str) -> list[dict[str, Any]]:
    path = data / "record.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [entry for entry in entries if entry["kind"] == kind]


def run(body: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(body, 60)

    return asyncio.run(bounded())


def test_a_server_is_started_when_none_runs_and_used_when_one_does(place: Place) -> None:
    async def body() -> tuple[int, int]:
        async with await launch.connect(place) as first:
            one = (await first.status())["pid"]
        async with await launch.connect(place) as second:
            return one, (await second.status())["pid"]

    one, two = run(body())
    assert one == two
    assert len(record(place.data_dir, "start")) == 1


def test_a_killed_server_with_its_socket_left_behind_is_started_again(place: Place) -> None:
    async def body() -> tuple[int, int]:
        async with await launch.connect(place) as first:
            one = int((await first.status())["pid"])
        os.kill(one, signal.SIGKILL)
        assert await launch.gone(one, 5.0)
        assert place.socket.exists()
        async with await launch.connect(place) as second:
            return one, int((await second.status())["pid"])

    one, two = run(body())
    assert one != two


def test_a_server_whose_socket_was_removed_is_replaced(place: Place) -> None:
    async def body() -> bool:
        async with await launch.connect(place) as first:
            pid = int((await first.status())["pid"])
        place.socket.unlink()
        os.utime(place.data_dir / "server.lock", (0, 0))  # it has been up for long: no other command's fresh start
        async with await launch.connect(place) as second:
            assert (await second.status())["pid"] != pid
        return await launch.gone(pid, 5.0)

    assert run(body())


def test_two_commands_that_start_a_server_at_once_share_it(place: Place) -> None:
    async def body() -> list[int]:
        clients = await asyncio.gather(*(launch.connect(place) for _ in range(4)))
        pids = [int((await client.status())["pid"]) for client in clients]
        for client in clients:
            await client.aclose()
        return pids

    assert len(set(run(body()))) == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"version": "0.0.1"}, "zygo 0.0.1"),
        ({"fingerprint": "other"}, "other code"),
        ({"prefix": "/nowhere/at/all"}, "is gone"),
        ({"version": "99.0", "apps": []}, "zygo 99.0"),
    ],
)
def test_a_server_of_another_build_is_replaced(place: Place, status: dict[str, Any], reason: str) -> None:
    said: list[str] = []

    async def body() -> tuple[int, int]:
        async with await launch.connect(place) as first:
            one = int((await first.status())["pid"])
        overlay = place.data_dir / "status.json"
        overlay.write_text(json.dumps(status))
        async with await launch.connect(place, replace=False) as same:
            assert (await same.status())["pid"] == one
        async with await launch.connect(place, say=said.append) as second:
            overlay.unlink()
            return one, int((await second.status())["pid"])

    one, two = run(body())
    assert one != two
    assert reason in said[0]


def test_a_newer_server_that_has_apps_is_left_alone(place: Place) -> None:
    (place.data_dir / "status.json").write_text(json.dumps({"version": "99.0", "apps": [{"name": "theirs"}]}))

    async def body() -> None:
        async with await launch.connect(place):
            pass
        with pytest.raises(errors.VersionError, match="zygo server stop"):
            await launch.connect(place)

    run(body())


def test_a_server_that_does_not_start_shows_the_end_of_its_log(place: Place) -> None:
    (place.data_dir / "broken").touch()
    with pytest.raises(errors.ConnectionError, match="the fake server is broken"):
        run(launch.connect(place))


def test_a_data_directory_that_cannot_be_used_is_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad = replace(place, data_dir=tmp_path / "file" / "data")
    with pytest.raises(errors.ConnectionError, match="ZYGO_DATA_DIR"):
        run(launch.connect(bad))


def test_stopping_returns_when_the_process_is_gone(place: Place) -> None:
    async def body() -> int:
        async with await launch.connect(place) as client:
            pid = int((await client.status())["pid"])
            await launch.stop(client, pid)
            assert await launch.probe(client) is None
            return pid

    assert run(launch.gone(run(body()), 0.0))


def test_sessions_conflict_and_are_taken_over_by_force(place: Place) -> None:
    async def body() -> list[dict[str, Any]]:
        async with await launch.connect(place) as client, client.session(app="hello", file="hello.py") as mine:
            with pytest.raises(errors.ConflictError, match="--force"):
                async with client.session(app="hello", file="hello.py"):
                    pass
            async with client.session(app="hello", file="hello.py", force=True) as theirs:
                assert theirs.id != mine.id
                return [event async for event in mine.events()]

    assert run(body()) == [{"type": "ended", "reason": "another serve took over"}]


def test_a_server_killed_under_a_session_is_a_connection_error(place: Place) -> None:
    async def body() -> None:
        async with await launch.connect(place) as client:
            pid = int((await client.status())["pid"])
            async with client.session(app="hello", file="hello.py") as session:
                os.kill(pid, signal.SIGKILL)
                async for _ in session.events():
                    pass

    with pytest.raises(errors.ConnectionError, match="went away"):
        run(body())


def test_a_silent_server_is_a_timeout(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.2)

    async def body() -> None:
        async with await launch.connect(place) as client, client.session(app="a", file="a.py") as session:
            async for _ in session.events():
                pass

    with pytest.raises(errors.TimeoutError):
        run(body())


def test_nothing_behind_the_socket_is_a_connection_error(tmp_path: Path) -> None:
    async def body() -> None:
        async with Client(tmp_path / "control.sock") as client:
            await client.status()

    with pytest.raises(errors.ConnectionError, match=r"No server answers at .*control\.sock"):
        run(body())


def test_logs_come_by_line(place: Place) -> None:
    async def body() -> list[str]:
        async with await launch.connect(place) as client, client.logs(tail=3, follow=False) as lines:
            return [line async for line in lines]

    assert run(body()) == ["line 0", "line 1", "line 2"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (409, errors.ConflictError("taken"), errors.ConflictError),
        (500, errors.ImageBuildError("failed", step="pip_install"), errors.ImageBuildError),
        (404, None, errors.NotFoundError),
        (503, None, errors.ConnectionError),
        (418, None, errors.Error),
    ],
)
def test_an_answer_becomes_its_error(status: int, body: errors.Error | None, expected: type[errors.Error]) -> None:
    content = json.dumps({"error": errors.to_json(body)}).encode() if body else b"<html>oops"
    error = client_module.error_of(status, content)
    assert type(error) is expected
    if body is None:
        assert f"answered {status}: <html>oops" in str(error)
    else:
        assert vars(error) == vars(body)


def test_errors_cross_a_boundary_with_their_causes_and_details() -> None:
    error = errors.UserCodeError("failed", traceback="Traceback", file="a.py", line=3)
    error.__cause__ = KeyError("x")
    copy = errors.from_json(json.loads(json.dumps(errors.to_json(error))))
    assert isinstance(copy, errors.UserCodeError)
    assert (copy.traceback, copy.file, copy.line) == ("Traceback", "a.py", 3)
    assert str(copy.__cause__) == "KeyError: 'x'"


def test_importing_the_client_does_not_load_the_http_library() -> None:
    code = "import sys, zygo.sdk.client, zygo.sdk.launch; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
