"""Containers that only exist in memory: what pool and scheduler are tested against, faults included."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.engine.base import RevisionPlan
from zygo.errors import ContainerError
from zygo.model import FunctionSpec, ImageSpec, ScalePolicy, WebSpec

if TYPE_CHECKING:
    from zygo.engine.base import Container
    from zygo.errors import Error

SECONDS = 10.0
"""For anything these tests wait for; they take milliseconds."""


def spec(name: str = "f", *, startup_timeout: float | None = None, timeout: float = 5.0) -> FunctionSpec:
    return FunctionSpec(
        name=name,
        module="app",
        qualname=name,
        image=ImageSpec("3.11"),
        web=WebSpec("asgi_app"),
        policy=ScalePolicy(),
        timeout=timeout,
        startup_timeout=startup_timeout,
    )


class FakeContainer:
    def __init__(self, number: int, function: str) -> None:
        loop = asyncio.get_running_loop()
        self.id = f"c-{number}"
        self.function = function
        self.socket_path = f"/nowhere/{self.id}"
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.exited: asyncio.Future[int] = loop.create_future()
        self.stops: list[float] = []
        self.stubborn = False

    async def stop(self, grace: float) -> int:
        self.stops.append(grace)
        if not self.stubborn:
            self.die(0)
        return await asyncio.shield(self.exited)

    def reason(self) -> str:
        return f"exit status {self.exited.result()}" if self.exited.done() else ""

    def die(self, status: int = 1, traceback: str = "") -> None:
        if not self.ready.done():
            self.ready.set_exception(ContainerError("The container failed while it started.", traceback))
        # A moment later, as the end of a real process is seen after its last message.
        asyncio.get_running_loop().call_soon(self._gone, status)

    def _gone(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status)


class FakeRevision:
    """`boot` says what becomes of a container: "ready" at once, "never", "dies"; `fork_fails` raises instead."""

    def __init__(self, boot: str = "ready") -> None:
        self.plan = RevisionPlan(
            id="r-1",
            app="a",
            image="i",
            python=Path("/usr/bin/python3"),
            binds=(),
            path_tail=(Path("/g"), Path("/r")),
            files=Path("/files"),
            module="app",
            app_variable="app",
            functions=(spec(),),
        )
        self.notes: tuple[str, ...] = ()
        self.modules: tuple[str, ...] = ()
        self.boot = boot
        self.fork_fails: Error | None = None
        self.made: list[FakeContainer] = []
        self.retired = False

    async def start(self, function: str, variant: FunctionSpec | None = None) -> FakeContainer:
        if self.fork_fails is not None:
            raise self.fork_fails
        container = FakeContainer(len(self.made) + 1, function)
        self.made.append(container)
        if self.boot == "ready":
            container.ready.set_result(None)
        elif self.boot == "dies":
            container.die(1, "Traceback: no luck")
        return container

    async def retire(self) -> None:
        self.retired = True


class FakeTraffic:
    """The requests, as numbers that a test sets."""

    def __init__(self) -> None:
        self.queue = 0
        self.busy: dict[str, int] = {}
        self.idle: dict[str, float] = {}
        self.active_at: float | None = None
        self.failures: list[Error] = []
        self.added: list[str] = []
        self.removed: list[str] = []
        self.news = asyncio.Event()

    def waiting(self) -> int:
        return self.queue

    def in_flight(self, container: str) -> int:
        return self.busy.get(container, 0)

    def idle_since(self, container: str) -> float | None:
        return None if self.busy.get(container) else self.idle.get(container, 0.0)

    def last_active(self) -> float | None:
        return self.active_at

    def add(self, container: Container, fork_seconds: float) -> None:
        self.added.append(container.id)
        self.news.set()

    def remove(self, container: str) -> None:
        self.removed.append(container)
        self.news.set()

    def fail(self, error: Error) -> None:
        self.failures.append(error)
        self.queue = 0
        self.news.set()

    async def until(self, condition: object) -> None:
        """Return once `condition()` is true; looked at whenever something was reported."""
        assert callable(condition)
        async with asyncio.timeout(SECONDS):
            while not condition():
                self.news.clear()
                await self.news.wait()


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
