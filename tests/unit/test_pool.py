"""One function's containers: started, ready, draining, gone, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fake_engine import SECONDS, FakeRevision, FakeTraffic, ManualClock, settle, spec
from zygo.errors import ContainerError
from zygo.scheduler.pool import BOOT_FAILURES, RETRY_AFTER, Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class World:
    """A pool with everything around it."""

    def __init__(self, boot: str = "ready", **options: Any) -> None:
        self.clock = ManualClock()
        self.traffic = FakeTraffic()
        self.revision = FakeRevision(boot)
        self.lines: list[tuple[str, str]] = []
        self.changes = 0
        self.pool = Pool(
            revision=self.revision,
            spec=spec(**options),
            traffic=self.traffic,
            clock=self.clock,
            changed=self._changed,
            log=lambda container, text: self.lines.append((container, text)),
            grace=30.0,
        )

    def _changed(self) -> None:
        self.changes += 1
        self.traffic.news.set()

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.lines)


def run(test: Callable[[World], Awaitable[None]], boot: str = "ready", **options: Any) -> None:
    async def body() -> None:
        world = World(boot, **options)
        async with asyncio.timeout(SECONDS):
            await test(world)
        await world.pool.close(0.0)
        assert world.pool.empty

    asyncio.run(body())


def test_a_start_counts_at_once_and_takes_requests_when_it_is_ready() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        assert (world.pool.size, world.pool.starting, world.pool.ready) == (1, 1, 0)
        await world.traffic.until(lambda: world.traffic.added == ["c-1"])
        assert (world.pool.size, world.pool.starting, world.pool.ready) == (1, 0, 1)

    run(test)


def test_a_drained_container_goes_at_once_when_it_is_idle() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.ready)
        world.pool.drain("c-1")
        assert "c-1" in world.traffic.removed
        await world.traffic.until(lambda: world.pool.empty)
        assert world.revision.made[0].stops == [30.0]
        assert world.text == "", "a container that was told to stop did not die"

    run(test)


def test_a_drained_container_finishes_what_it_serves_until_its_deadline() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.ready)
        world.traffic.busy["c-1"] = 1
        world.pool.drain("c-1")
        assert world.pool.sweep() == world.clock.now + 5.0
        await settle()
        assert world.revision.made[0].stops == []
        world.clock.now += 5.0
        world.pool.sweep()
        await world.traffic.until(lambda: world.pool.empty)

    run(test)


def test_draining_while_it_starts_is_no_failure() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await settle()
        world.pool.drain_all()
        await world.traffic.until(lambda: world.pool.empty)
        await settle()
        assert world.traffic.added == []
        assert world.lines == []
        assert world.pool.failure is None

    run(test, boot="never")


def test_a_crash_after_ready_is_told_with_its_reason() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.ready)
        world.revision.made[0].die(9)
        await world.traffic.until(lambda: world.pool.empty)
        assert world.lines == [("c-1", "The container of f died: exit status 9.")]
        assert world.changes

    run(test)


def test_a_killed_container_is_gone_without_grace_and_is_explained_once() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.ready)
        world.pool.kill("c-1", "it took too long")
        world.pool.kill("c-1", "it took too long")
        await world.traffic.until(lambda: world.pool.empty)
        assert world.revision.made[0].stops == [0.0]
        assert world.lines[0] == ("c-1", "it took too long")
        assert "died" not in world.text

    run(test)


def test_three_boot_failures_in_a_row_give_the_traceback_instead_of_a_loop() -> None:
    async def test(world: World) -> None:
        for number in range(BOOT_FAILURES):
            assert world.pool.may_start()
            assert not world.traffic.failures, f"given up after {number}"
            before = world.changes
            world.pool.start_one()
            await world.traffic.until(lambda before=before: world.changes > before and world.pool.empty)
            await settle()
        [error] = world.traffic.failures
        assert isinstance(error, ContainerError)
        assert "no luck" in error.traceback
        assert world.text.splitlines().count("Traceback: no luck") == 1, "the traceback is told once, not at every try"
        assert not world.pool.may_start()
        world.clock.now += RETRY_AFTER
        assert world.pool.may_start()

    run(test, boot="dies")


def test_a_success_forgives_the_failures_before_it() -> None:
    async def test(world: World) -> None:
        for boot in ("dies", "dies", "ready", "dies", "dies"):
            world.revision.boot = boot
            before = world.changes
            world.pool.start_one()
            await world.traffic.until(lambda before=before: world.changes > before and not world.pool.starting)
            await settle()
        assert world.pool.failure is None

    run(test)


def test_a_zygote_that_cannot_fork_counts_as_a_boot_failure() -> None:
    async def test(world: World) -> None:
        world.revision.fork_fails = ContainerError("The image's zygote is gone.")
        for _ in range(BOOT_FAILURES):
            world.pool.start_one()
            await settle()
        assert world.pool.empty
        assert world.pool.failure is world.revision.fork_fails

    run(test)


def test_startup_timeout_stops_a_container_that_is_never_ready() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.empty and world.lines)
        assert "was not ready in 0.01 s" in world.text
        assert "startup_timeout" in world.text

    run(test, boot="never", startup_timeout=0.01)


def test_close_ends_containers_in_every_state() -> None:
    async def test(world: World) -> None:
        world.pool.start_one()
        await world.traffic.until(lambda: world.pool.ready)
        world.traffic.busy["c-1"] = 1
        world.pool.drain("c-1")
        world.revision.boot = "never"
        world.pool.start_one()
        await settle()
        world.pool.start_one()
        await world.pool.close(3.0)
        assert all(container.exited.done() for container in world.revision.made)
        assert world.pool.empty

    run(test)


def test_a_proof_is_a_container_that_became_ready() -> None:
    async def test(world: World) -> None:
        await world.pool.prove()
        assert (world.pool.ready, world.traffic.added) == (1, ["c-1"])

    run(test)


def test_a_proof_that_fails_raises_with_the_traceback_and_is_not_said_twice() -> None:
    async def test(world: World) -> None:
        proof = asyncio.ensure_future(world.pool.prove())
        while not world.revision.made:
            await settle()
        world.revision.made[-1].die(1, "Traceback: boom")
        with pytest.raises(ContainerError) as caught:
            await proof
        assert "boom" in caught.value.traceback
        assert (world.text, world.pool.failure) == ("", None)

    run(test, boot="never")


def test_a_proof_ends_with_its_pool() -> None:
    async def test(world: World) -> None:
        proof = asyncio.ensure_future(world.pool.prove())
        while not world.revision.made:
            await settle()
        await world.pool.close(0.0)
        with pytest.raises(ContainerError, match="was stopped while it started"):
            await proof

    run(test, boot="never")
