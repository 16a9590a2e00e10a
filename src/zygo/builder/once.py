"""Work that several callers want at the same time is done once, and stops when the last of them has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class _Job:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.listeners: list[Callable[[str], None]] = []
        self.task: asyncio.Task[None] | None = None

    def emit(self, line: str) -> None:
        self.lines.append(line)
        for listener in list(self.listeners):
            listener(line)


class Once:
    """Jobs by key. Each caller gets every line of the job, those from before it came too, and its end or exception."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    async def run(
        self, key: str, listener: Callable[[str], None], work: Callable[[Callable[[str], None]], Awaitable[None]]
    ) -> None:
        """Joins the job `key`, or starts `work(emit)` as that job.

        `listener` must not raise. When the only caller left is cancelled, the job is cancelled and awaited first.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job()
            job.task = asyncio.create_task(self._work(key, job, work), name=f"build {key}")
        for line in job.lines:
            listener(line)
        job.listeners.append(listener)
        assert job.task is not None
        try:
            await asyncio.shield(job.task)
        finally:
            job.listeners.remove(listener)
            if not job.listeners and not job.task.done():
                # Out of the table first: who comes while it is being cancelled starts anew.
                self._forget(key, job)
                job.task.cancel()
                await asyncio.wait({job.task})

    async def _work(self, key: str, job: _Job, work: Callable[[Callable[[str], None]], Awaitable[None]]) -> None:
        try:
            await work(job.emit)
        finally:
            self._forget(key, job)

    def _forget(self, key: str, job: _Job) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]


async def in_thread(function: Callable[[], T]) -> T:
    """`function()` in a thread. A cancelled caller waits for its end: what it writes to may be removed next."""
    running = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
