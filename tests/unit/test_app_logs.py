"""The hub of the apps' logs: whose log a name means, what is kept of a flood, and followers who miss nothing and see nothing
twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zygo.errors import NotFoundError
from zygo.runtime.flood import LINES_AT_ONCE
from zygo.server import app_logs
from zygo.server.app_logs import AppLog, AppLogs, LogKey
from zygo.server.log_lines import Line, Wanted, decode
from zygo.server.log_reader import last_lines
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def with_logs(folder: Path, body: Callable[[AppLogs], Awaitable[Any]], max_bytes: int = 2**20) -> Any:
    async def run() -> Any:
        logs = AppLogs(folder / "apps", max_bytes)
        try:
            return await body(logs)
        finally:
            await logs.close()

    return asyncio.run(run())


async def texts(logs: AppLogs, key: LogKey, count: int = 10**6) -> list[str]:
    snapshot = await logs.snapshot(key)
    try:
        return [_text(raw) for raw in last_lines(snapshot, Wanted(), count)]
    finally:
        snapshot.close()


def _text(raw: bytes) -> str:
    line = decode(raw)
    assert line is not None
    return line.text


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.booleans(),
    st.sampled_from(["main", "en-0a1b"]),
)
def test_every_app_has_a_folder_of_its_own(name: str, ephemeral: bool, environment: str) -> None:
    key = LogKey(name, ephemeral, environment)
    assert "/" not in key.folder
    assert key.folder not in (".", "..")
    assert len(key.folder.encode()) < 250
    if "~" not in key.folder:
        assert LogKey.of_folder(key.folder) == key


def test_a_name_means_the_deployed_app_first_and_a_wrong_one_tells_what_is_near(tmp_path: Path) -> None:
    async def body(logs: AppLogs) -> None:
        served = logs.open("hello", ephemeral=True)
        assert logs.find("hello") == logs.find("hello-dev") == LogKey("hello", True)
        deployed = logs.open("hello", ephemeral=False)
        assert logs.find("hello") == LogKey("hello", False)
        assert logs.find("hello-dev") == LogKey("hello", True)
        with pytest.raises(NotFoundError, match=r"no app 'helo'.* Did you mean 'hello' or 'hello-dev'\?"):
            logs.find("helo")
        with pytest.raises(NotFoundError, match=r"and no log of one\. `zygo server status`"):
            logs.find("photos")
        with pytest.raises(NotFoundError):
            logs.find("")
        for name in (".", "..", "../apps", "/"):
            with pytest.raises(NotFoundError):
                logs.find(name)
        served.write("f", "stdout", "one")
        for one in (served, served, deployed):
            one.close()
        assert not logs.is_live(LogKey("hello", True))
        assert await texts(logs, LogKey("hello", True)) == ["one"]
        assert logs.find("hello") == LogKey("hello", True), "its log outlives it; the other one never wrote any"

    with_logs(tmp_path, body)

    async def later(logs: AppLogs) -> list[str]:
        return await texts(logs, logs.find("hello"))

    assert with_logs(tmp_path, later) == ["one"], "and the server"


def test_a_flood_is_cut_and_what_zygo_says_is_not(tmp_path: Path) -> None:
    told: list[Line] = []

    async def body(logs: AppLogs) -> list[str]:
        log = logs.open("a", ephemeral=False)
        log.on_line = told.append
        for i in range(LINES_AT_ONCE + 500):
            log.write("f", "stdout", f"{i}")
        log.write("f", "system", "died")
        log.write("f", "request", "GET /")
        log.close()
        return await texts(logs, log.key)

    kept = with_logs(tmp_path, body, 2**24)
    assert kept[:LINES_AT_ONCE] == [f"{i}" for i in range(LINES_AT_ONCE)]
    assert kept[LINES_AT_ONCE:-1] == ["died", "GET /"]
    assert kept[-1].startswith("500 more lines of output were left out: more than 5,000 lines or 4 MiB in a second")
    assert [line.text for line in told] == kept


def test_the_characters_of_a_flood_are_limited_too(tmp_path: Path) -> None:
    async def body(logs: AppLogs) -> list[str]:
        log = logs.open("a", ephemeral=False)
        for _ in range(1000):
            log.write("f", "stdout", "x" * 60_000)
        log.close()
        return await texts(logs, log.key)

    kept = with_logs(tmp_path, body, 2**25)
    assert len(kept) == 4 * app_logs.CHARACTERS_PER_SECOND // 60_000 + 1
    assert kept[-1].startswith(f"{1001 - len(kept)} more lines of output were left out")


def test_a_follower_has_the_last_lines_and_then_each_once_over_rotations(tmp_path: Path) -> None:
    async def body(logs: AppLogs) -> None:
        log = logs.open("a", ephemeral=False)
        number = 0

        async def write(count: int) -> None:
            nonlocal number
            for _ in range(count):
                log.write("f", "stdout", f"{number}")
                number += 1
                if number % 7 == 0:
                    await asyncio.sleep(0)

        await write(50)
        writing = asyncio.create_task(write(2000))
        await asyncio.sleep(0)
        snapshot, follower = await logs.follow(log.key, Wanted())
        before = [int(_text(raw)) for raw in last_lines(snapshot, Wanted(), 20)]
        snapshot.close()
        await writing
        log.close()
        logs.end_followers()
        after: list[int] = []
        while lines := await follower.next():
            after += [int(_text(raw)) for raw in lines.splitlines()]
        assert before + after == list(range(before[0], 2050))
        assert len(before) == 20
        follower.close()
        follower.close()
        assert logs.followers(log.key) == []

    with_logs(tmp_path, body, max_bytes=4096)


def test_a_follower_that_does_not_read_loses_lines_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_logs, "MAX_BEHIND", 10)

    async def body(logs: AppLogs) -> None:
        log = logs.open("a", ephemeral=False)
        snapshot, follower = await logs.follow(log.key, Wanted(streams=frozenset({"stderr"})))
        snapshot.close()
        for i in range(30):
            log.write("f", "stderr", f"{i}")
            log.write("f", "stdout", "not wanted")
        got = [_text(raw) for raw in (await follower.next()).splitlines()]
        assert got == [*(f"{i}" for i in range(10)), "20 lines were dropped: the reader does not keep up"]
        log.write("f", "stderr", "again")
        assert _text(await follower.next()) == "again"
        follower.close()

    with_logs(tmp_path, body)


def test_lines_are_written_without_anybody_asking(tmp_path: Path) -> None:
    async def body(logs: AppLogs) -> bytes:
        log: AppLog = logs.open("a", ephemeral=False)
        log.write("f", "stdout", "one", container="c-1", revision="r-1", call="fc-1")
        file = logs.folder / "a" / "log.jsonl"
        await asyncio.to_thread(until, lambda: file.exists() and file.stat().st_size > 0, 10)
        return file.read_bytes()

    line = decode(with_logs(tmp_path, body))
    assert line is not None
    assert line[1:] == ("f", "c-1", "stdout", "one", "r-1", "fc-1")
