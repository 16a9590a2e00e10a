"""What the store promises of calls, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from store_kit import with_store
from zygo.errors import ConflictError, NotFoundError
from zygo.model import CallState
from zygo.settings import Settings
from zygo.store.calls import KEPT_SECONDS, REMEMBERED_SECONDS, NewCall, Outcome, Payload
from zygo.store.payloads import YOUNG_SECONDS, PayloadFiles

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.store.store import Store

NOW = 1000.0
NONE: frozenset[int] = frozenset()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path / "data")
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", database_url=request.getfixturevalue("postgres").create_database())


def call(identifier: str, *payloads: bytes, first: int = 0, function: str = "fu-1", owner: str = "ap-1") -> NewCall:
    return NewCall(identifier, owner, "shop", "resize", function, "3.11", tuple(map(Payload, payloads)), first)


def done(position: int, identifier: str, data: bytes = b"r") -> Outcome:
    return Outcome(position, identifier, CallState.SUCCEEDED, "v", Payload(data))


def test_from_acceptance_to_result(settings: Settings) -> None:
    async def use(store: Store) -> None:
        calls = store.calls
        assert await calls.last_position() == 0
        assert await calls.add([call("fc-1", b"\x00a", b"b"), call("fc-2", b"c")], NOW, 1) == [2, 1]
        assert await calls.backlog() == {"fu-1": 3}
        assert await calls.last_position() == 3
        due, later = await calls.due("fu-1", NOW, 2, NONE)
        assert [(g.position, g.call_id, g.number, g.payload.data) for g in due] == [
            (1, "fc-1", 0, b"\x00a"),
            (2, "fc-1", 1, b"b"),
        ]
        assert later is None
        assert [g.position for g in (await calls.due("fu-1", NOW, 2, frozenset({1, 2})))[0]] == [3]
        assert await calls.record([done(2, "fc-1", b"\xff")], NOW + 1) == [True]
        # Only the first one counts.
        assert await calls.record([done(2, "fc-1", b"other")], NOW + 2) == [False]
        states = [
            result and (result.state.value, result.payload.data)
            for result in await calls.results([("fc-1", 1), ("fc-1", 0), ("fc-9", 0)])
        ]
        assert states == [("succeeded", b"\xff"), ("pending", None), None]
        found = await calls.call("fc-1")
        assert found.states == {"pending": 1, "succeeded": 1}
        assert (found.inputs, found.expires_at) == (2, None)
        await calls.record([done(1, "fc-1"), done(3, "fc-2")], NOW + 3)
        assert (await calls.call("fc-1")).expires_at == NOW + 3 + KEPT_SECONDS
        assert await calls.backlog() == {}
        with pytest.raises(NotFoundError, match="fc-9"):
            await calls.call("fc-9")

    with_store(settings, use)


def test_a_repeated_request_changes_nothing(settings: Settings) -> None:
    async def use(store: Store) -> None:
        calls = store.calls
        assert await calls.add([call("fc-1", b"a")], NOW, 1) == [1]
        assert await calls.add([call("fc-1", b"a"), call("fc-2", b"b")], NOW, 2) == [0, 1]
        assert await calls.add([call("fc-1", b"c", b"d", first=1)], NOW, 3) == [2]
        assert await calls.add([call("fc-1", b"c", b"d", first=1)], NOW, 5) == [0]
        assert (await calls.call("fc-1")).inputs == 3
        wrong = await calls.add([call("fc-1", b"a", function="fu-2"), call("fc-1", b"x", first=9)], NOW, 9)
        assert all(isinstance(answer, ConflictError) for answer in wrong)
        assert await calls.backlog() == {"fu-1": 4}

    with_store(settings, use)


def test_what_is_set_back_waits_for_its_time(settings: Settings) -> None:
    async def use(store: Store) -> None:
        calls = store.calls
        await calls.add([call("fc-1", b"a", b"b")], NOW, 1)
        again = Outcome(1, "fc-1", CallState.PENDING, failures=1, losses=2, due_at=NOW + 10)
        await calls.record([again, done(2, "fc-1")], NOW)
        assert await calls.due("fu-1", NOW + 9, 10, NONE) == ([], NOW + 10)
        [given] = (await calls.due("fu-1", NOW + 10, 10, NONE))[0]
        assert (given.failures, given.losses) == (1, 2)

    with_store(settings, use)


def test_what_is_cancelled_is_a_result(settings: Settings) -> None:
    async def use(store: Store) -> None:
        calls = store.calls
        await calls.add([call("fc-1", b"a", b"b"), call("fc-2", b"c", owner="ap-2", function="fu-2")], NOW, 1)
        await calls.record([done(1, "fc-1")], NOW)
        cancelled = await calls.cancel_call("fc-1", b"{}", NOW)
        assert (cancelled.inputs, cancelled.call_ids) == ({"fu-1": 1}, ("fc-1",))
        assert (await calls.call("fc-1")).states == {"succeeded": 1, "cancelled": 1}
        assert await calls.record([done(2, "fc-1")], NOW) == [False]
        assert (await calls.cancel_call("fc-1", b"{}", NOW)).inputs == {}
        assert (await calls.cancel_all_but(["ap-1"], b"{}", NOW)).inputs == {"fu-2": 1}
        assert await calls.backlog() == {}

    with_store(settings, use)


def test_results_are_kept_for_a_week(settings: Settings) -> None:
    async def use(store: Store) -> None:
        calls = store.calls
        await calls.add([call("fc-1", b"a"), call("fc-2", b"b")], NOW, 1)
        await calls.record([Outcome(1, "fc-1", CallState.SUCCEEDED, "v", Payload(None, "ab" * 32))], NOW)
        assert await calls.named_files() == {"ab" * 32}
        assert await calls.expire(NOW + KEPT_SECONDS - 1) == 0
        assert await calls.expire(NOW + KEPT_SECONDS + 1) == 1
        assert await calls.named_files() == set()
        assert await calls.results([("fc-1", 0)]) == [None]
        assert (await calls.call("fc-1")).expired
        await calls.expire(NOW + KEPT_SECONDS + REMEMBERED_SECONDS + 1)
        with pytest.raises(NotFoundError):
            await calls.call("fc-1")
        # What has no result does not expire.
        assert await calls.backlog() == {"fu-1": 1}

    with_store(settings, use)


def test_files_of_payloads(tmp_path: Path) -> None:
    files = PayloadFiles(tmp_path / "calls")
    name = files.put(b"data" * 100)
    assert files.put(b"data" * 100) == name
    assert files.get(name) == b"data" * 100
    [path] = [path for path in files.folder.rglob("*") if path.is_file()]
    assert path.stat().st_mode & 0o777 == 0o600
    # Young, or named: it stays.
    assert files.sweep(set()) == 0
    os.utime(path, (0, 0))
    assert files.sweep({name}) == 0
    assert files.sweep(set(), YOUNG_SECONDS + 1) == 1
    with pytest.raises(FileNotFoundError):
        files.get(name)
