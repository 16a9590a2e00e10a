"""A session whose connection is cut: nothing is lost, and nothing stays for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from zygo.server import remote_sessions
from zygo.server.remote_sessions import RemoteSession

if TYPE_CHECKING:
    import pytest


async def take(session: RemoteSession, after: int, count: int) -> list[dict[str, Any]]:
    """So many events beyond `after`; then the connection is cut."""
    found: list[dict[str, Any]] = []
    stream = session.events(after)
    async for events in stream:
        found += [event for event in events if event["type"] not in ("session", "ping")]
        if len(found) >= count:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    session.client_gone()
    return found


def test_what_comes_during_a_cut_follows_after_it() -> None:
    async def body() -> None:
        session = RemoteSession("hello", "hello.py")
        for number in range(3):
            session.emit({"type": "log", "text": str(number)})
        assert [event["n"] for event in await take(session, 0, 3)] == [1, 2, 3]
        session.emit({"type": "log", "text": "meanwhile"})
        assert not session.ended.is_set()
        # The last one was on its way when the cable was cut: it comes again.
        assert [event["text"] for event in await take(session, 2, 2)] == ["2", "meanwhile"]
        session.seen(3)
        session.end("done", "ended")
        assert [event["type"] for event in await take(session, 3, 2)] == ["log", "ended"]

    asyncio.run(body())


def test_the_buffer_is_bounded_and_says_what_it_lost() -> None:
    async def body() -> None:
        session = RemoteSession("hello", "hello.py")
        for number in range(10_050):
            session.emit({"type": "log", "text": str(number)})
        found = await take(session, 20, 10_001)
        assert found[0] == {"type": "warning", "text": "30 lines were lost while the connection was cut."}
        assert (found[1]["n"], found[-1]["n"]) == (51, 10_050)

    asyncio.run(body())


def test_a_later_reader_takes_over() -> None:
    async def body() -> None:
        session = RemoteSession("hello", "hello.py")
        first = session.events()
        await anext(first)
        waiting = asyncio.ensure_future(anext(first, None))
        await asyncio.sleep(0)
        second = session.events()
        await anext(second)
        assert await asyncio.wait_for(waiting, 5) is None
        session.goodbye()
        assert session.ended.is_set()

    asyncio.run(body())


def test_one_that_nobody_speaks_to_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        session = RemoteSession("hello", "hello.py")
        session._heard -= remote_sessions.GRACE_SECONDS
        session.seen(0)
        session._look()
        assert not session.ended.is_set()
        session._heard -= remote_sessions.GRACE_SECONDS
        session._look()
        assert session.ended.is_set()
        monkeypatch.setattr(remote_sessions, "GRACE_SECONDS", 0.05)
        alone, detached = RemoteSession("hello", "hello.py"), RemoteSession("hello", "hello.py", detached=True)
        await asyncio.wait_for(alone.ended.wait(), 60)
        await asyncio.wait_for(detached.abandoned.wait(), 60)
        assert not detached.ended.is_set()

    asyncio.run(body())
