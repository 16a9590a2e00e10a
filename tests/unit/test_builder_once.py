"""Shared work: done once for several callers, told to all of them, stopped with the last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from zygo.builder.once import Once, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class Work:
    """A job that says "one", waits, says "two", and counts what happened to it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.starts = self.cancels = 0

    async def __call__(self, emit: Callable[[str], None]) -> None:
        self.starts += 1
        emit("one")
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancels += 1
            raise
        emit("two")


def test_two_callers_share_one_job_and_both_hear_all_of_it() -> None:
    async def main() -> None:
        once, work = Once(), Work()
        first: list[str] = []
        second: list[str] = []
        one = asyncio.create_task(once.run("k", first.append, work))
        await work.started.wait()
        other = asyncio.create_task(once.run("k", second.append, work))
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(one, other)
        assert work.starts == 1
        assert first == second == ["one", "two"]

    asyncio.run(main())


def test_a_finished_job_is_not_kept() -> None:
    async def main() -> None:
        once, work = Once(), Work()
        work.go.set()
        await once.run("k", lambda _: None, work)
        await once.run("k", lambda _: None, work)
        assert work.starts == 2

    asyncio.run(main())


def test_a_cancelled_caller_leaves_the_job_to_the_others() -> None:
    async def main() -> None:
        once, work = Once(), Work()
        leaver = asyncio.create_task(once.run("k", lambda _: None, work))
        await work.started.wait()
        stayer = asyncio.create_task(once.run("k", lambda _: None, work))
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        work.go.set()
        await stayer
        assert (work.starts, work.cancels) == (1, 0)

    asyncio.run(main())


def test_the_last_caller_takes_the_job_with_it_and_the_next_starts_anew() -> None:
    async def main() -> None:
        once, work = Once(), Work()
        only = asyncio.create_task(once.run("k", lambda _: None, work))
        await work.started.wait()
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        assert work.cancels == 1
        work.go.set()
        await once.run("k", lambda _: None, work)
        assert work.starts == 2

    asyncio.run(main())


def test_every_caller_gets_the_exception() -> None:
    async def broken(emit: Callable[[str], None]) -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    async def main() -> None:
        once = Once()
        ends = await asyncio.gather(
            once.run("k", lambda _: None, broken), once.run("k", lambda _: None, broken), return_exceptions=True
        )
        assert [str(end) for end in ends] == ["broken", "broken"]

    asyncio.run(main())


def test_a_cancelled_caller_waits_for_its_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        started, go = asyncio.Event(), asyncio.Event()
        ended = []

        def work() -> None:
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)
            ended.append(True)

        caller = asyncio.create_task(in_thread(work))
        await started.wait()
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended == [True]

    asyncio.run(main())
