"""The loop over all pools: starts when poked, stops when time says so, and never exceeds the machine's cap."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fake_engine import SECONDS, FakeRevision, FakeTraffic, settle, spec
from zygo.errors import ContainerError
from zygo.model import ScalePolicy
from zygo.scheduler.loop import Scheduler
from zygo.scheduler.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class World:
    def __init__(self, cap: int) -> None:
        self.scheduler = Scheduler(cap, time.monotonic)
        self.scheduler.max_starting = 100
        self.pools: list[Pool] = []
        self.lines: list[str] = []
        self.most = 0

    def pool(self, policy: ScalePolicy | None = None, boot: str = "ready") -> tuple[Pool, FakeTraffic, FakeRevision]:
        traffic, revision = FakeTraffic(), FakeRevision(boot)

        def changed() -> None:
            self.most = max(self.most, sum(pool.total for pool in self.pools))
            self.scheduler.poke()
            traffic.news.set()

        pool = Pool(
            revision=revision,
            spec=spec(f"f{len(self.pools)}"),
            traffic=traffic,
            clock=time.monotonic,
            changed=changed,
            log=lambda container, text: self.lines.append(text),
            grace=1.0,
        )
        self.pools.append(pool)
        self.scheduler.add(pool, policy or ScalePolicy())
        return pool, traffic, revision

    def limited(self, most: int, boot: str = "ready") -> tuple[Pool, FakeTraffic, FakeRevision]:
        """A pool whose function says max_containers=`most`."""
        pool, traffic, revision = self.pool(ScalePolicy(max_containers=most), boot)
        pool.spec = replace(pool.spec, policy=ScalePolicy(max_containers=most))
        return pool, traffic, revision

    async def close(self) -> None:
        self.scheduler.close()
        for pool in self.pools:
            await pool.close(0.0)


def run(test: Callable[[World], Awaitable[None]], cap: int = 100) -> None:
    async def body() -> None:
        world = World(cap)
        async with asyncio.timeout(SECONDS):
            await test(world)
        await world.close()

    asyncio.run(body())


def test_min_containers_start_without_a_request() -> None:
    async def test(world: World) -> None:
        pool, traffic, _ = world.pool(ScalePolicy(min_containers=2))
        await traffic.until(lambda: pool.ready == 2)

    run(test)


def test_a_waiting_request_is_met_and_its_container_goes_after_the_window() -> None:
    async def test(world: World) -> None:
        pool, traffic, revision = world.pool(ScalePolicy(scaledown_window=0.05))
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: pool.ready == 1)
        traffic.queue = 0
        traffic.idle["c-1"] = traffic.active_at = time.monotonic()
        world.scheduler.poke()
        await traffic.until(lambda: pool.empty)
        assert time.monotonic() - traffic.active_at >= 0.05
        assert len(revision.made) == 1

    run(test)


def test_a_dead_container_of_the_floor_is_replaced() -> None:
    async def test(world: World) -> None:
        pool, traffic, revision = world.pool(ScalePolicy(min_containers=1))
        await traffic.until(lambda: pool.ready == 1)
        revision.made[0].die(1)
        await traffic.until(lambda: len(revision.made) == 2 and pool.ready == 1)

    run(test)


def test_a_floor_that_dies_at_once_again_and_again_is_replaced_with_backoff() -> None:
    async def test(world: World) -> None:
        pool, traffic, revision = world.pool(ScalePolicy(min_containers=1))
        for _ in range(6):
            count = len(revision.made)
            await traffic.until(lambda count=count: pool.ready == 1 or len(revision.made) > count)
            revision.made[-1].die(1)
            for _ in range(5):
                await settle()
            if len(revision.made) == count:
                break
        else:
            raise AssertionError("six restarts in no time at all: a hot loop")
        # What waits is not punished for it: a request starts one at once.
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: pool.ready == 1)

    run(test)


def test_the_machines_cap_holds_over_all_pools_and_is_told_once() -> None:
    async def test(world: World) -> None:
        one, traffic, _ = world.pool()
        two, other, _ = world.pool()
        traffic.queue, other.queue = 50, 50
        world.scheduler.poke()
        await traffic.until(lambda: world.scheduler.running == 6)
        for _ in range(3):
            world.scheduler.poke()
            await settle()
        assert world.most <= 6
        assert one.size + two.size == 6
        assert len([line for line in world.lines if "cap of 6 containers" in line]) == 1

    run(test, cap=6)


def test_an_idle_container_makes_room_for_a_function_that_has_none() -> None:
    async def test(world: World) -> None:
        rich, traffic, _ = world.pool()
        traffic.queue = 4
        world.scheduler.poke()
        await traffic.until(lambda: rich.ready == 4)
        traffic.queue = 0
        traffic.active_at = time.monotonic()
        traffic.idle = {f"c-{i}": time.monotonic() + i for i in range(1, 5)}
        poor, other, _ = world.pool()
        other.queue = 1
        world.scheduler.poke()
        await other.until(lambda: poor.ready == 1)
        assert traffic.removed[0] == "c-1", "the longest idle one"

    run(test, cap=4)


def test_a_function_under_load_gives_up_a_busy_container_for_one_that_has_none() -> None:
    async def test(world: World) -> None:
        rich, traffic, revision = world.pool()
        traffic.queue = 4
        world.scheduler.poke()
        await traffic.until(lambda: rich.ready == 4)
        traffic.queue = 100
        traffic.busy = {f"c-{i}": 1 for i in range(1, 5)}
        poor, other, _ = world.pool()
        other.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: traffic.removed)
        world.scheduler.poke()
        await settle()
        assert len(set(traffic.removed)) == 1, "one place is asked for, one is given up"
        [given_up] = set(traffic.removed)
        assert not poor.size
        assert not revision.made[int(given_up[2:]) - 1].stops, "it finishes what it serves"
        traffic.busy[given_up] = 0
        world.scheduler.poke()
        await other.until(lambda: poor.ready == 1)
        assert world.most <= 4

    run(test, cap=4)


def test_a_drained_pool_finishes_and_the_caller_is_told() -> None:
    async def test(world: World) -> None:
        pool, traffic, _ = world.pool(ScalePolicy(min_containers=2))
        await traffic.until(lambda: pool.ready == 2)
        traffic.busy["c-1"] = 1
        drained = asyncio.create_task(world.scheduler.drain(pool))
        await traffic.until(lambda: pool.total == 1)
        assert not drained.done()
        traffic.busy["c-1"] = 0
        world.scheduler.poke()
        await drained
        assert pool.empty

    run(test)


def test_several_may_wait_for_the_same_pool_and_one_may_give_up() -> None:
    async def test(world: World) -> None:
        pool, traffic, _ = world.pool(ScalePolicy(min_containers=1))
        await traffic.until(lambda: pool.ready == 1)
        traffic.busy["c-1"] = 1
        first, impatient, last = (asyncio.create_task(world.scheduler.drain(pool)) for _ in range(3))
        await settle()
        impatient.cancel()
        await asyncio.wait([impatient])
        assert not first.done()
        traffic.busy["c-1"] = 0
        world.scheduler.poke()
        await asyncio.gather(first, last)
        assert impatient.cancelled()

    run(test)


def test_a_pool_drained_while_a_container_starts_leaves_none() -> None:
    async def test(world: World) -> None:
        pool, traffic, revision = world.pool(boot="never")
        traffic.queue = 1
        world.scheduler.poke()
        await settle()
        assert pool.starting == 1
        await world.scheduler.drain(pool)
        assert pool.empty
        assert revision.made[0].exited.done()

    run(test)


def test_a_failed_function_refuses_those_who_wait_until_it_is_tried_again() -> None:
    async def test(world: World) -> None:
        pool, traffic, revision = world.pool(boot="dies")
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: traffic.failures)
        made = len(revision.made)
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: len(traffic.failures) == 2)
        assert len(revision.made) == made, "not tried again while the failure is fresh"
        pool.failed_at -= 60
        revision.boot = "ready"
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: pool.ready == 1)

    run(test)


def at_max(most: int, *pools: tuple[int, bool]) -> None:
    """Proves a new revision over `pools`, oldest first and the last one active: each with so many containers, busy or idle."""

    async def test(world: World) -> None:
        made = [world.limited(most) for _ in pools]
        before = [pool for pool, _, _ in made]
        for (pool, traffic, _), (count, is_busy) in zip(made, pools, strict=True):
            for _ in range(count):
                pool.start_one()
            await traffic.until(lambda pool=pool, count=count: pool.ready == count)
            for member in pool.members():
                traffic.busy[member.id] = int(is_busy)
                traffic.idle[member.id] = time.monotonic()
        leaving = [asyncio.create_task(world.scheduler.drain(pool)) for pool in before[:-1]]
        world.scheduler.add(before[-1], before[-1].spec.policy, before[:-1])
        new, _, _ = world.limited(most)
        world.scheduler.remove(new)  # the switch adds it
        waited: list[bool] = []

        async def prove() -> None:
            async with world.scheduler.proving(new, before, lambda: waited.append(True)):
                assert sum(pool.total for pool in before) <= most
                await new.prove()
                await settle()
                assert sum(pool.total for pool in world.pools) <= most + 1

        proof = asyncio.create_task(prove())
        await settle()
        if sum(count for count, _ in pools) > most and pools[-1][1]:
            assert waited
            assert new.total == 0
            # Somebody is done: of the active revision, which goes on with so many less.
            _, traffic, _ = made[-1]
            traffic.busy[before[-1].members()[0].id] = 0
            world.scheduler.poke()
        await proof
        assert new.ready == 1
        for _, traffic, _ in made:
            traffic.busy.clear()
        world.scheduler.poke()
        await asyncio.gather(*leaving)

    run(test)


def test_a_proof_is_the_one_container_more_than_max_containers() -> None:
    at_max(1, (1, False))
    at_max(1, (1, True))
    at_max(4, (4, True))


def test_with_one_leaving_the_active_revision_gives_up_its_idle_container_for_the_proof() -> None:
    at_max(1, (1, True), (1, False))
    at_max(4, (1, True), (4, False))


def test_with_one_leaving_and_all_busy_the_proof_waits_for_one_that_is_done() -> None:
    at_max(1, (1, True), (1, True))
    at_max(2, (1, True), (2, True))


def test_after_a_proof_that_failed_the_active_revision_has_its_containers_again() -> None:
    async def test(world: World) -> None:
        old, old_traffic, _ = world.limited(1)
        old.start_one()
        await old_traffic.until(lambda: old.ready == 1)
        old_traffic.busy["c-1"] = 1
        leaving = asyncio.create_task(world.scheduler.drain(old))
        active, traffic, _ = world.limited(1)
        world.scheduler.add(active, active.spec.policy, [old])
        traffic.queue = 1
        world.scheduler.poke()
        await traffic.until(lambda: active.ready == 1)
        traffic.queue = 0
        traffic.idle["c-1"] = time.monotonic()
        new, _, revision = world.limited(1, boot="never")
        world.scheduler.remove(new)
        proof = asyncio.create_task(_proof(world, new, [old, active]))
        while not revision.made:  # noqa: ASYNC110 - nobody reports it
            await asyncio.sleep(0)
        traffic.queue = 1
        world.scheduler.poke()
        await settle()
        assert active.total == 0, "its requests wait while the new revision is proven"
        revision.made[0].die(1, "no luck")
        with pytest.raises(ContainerError, match="no luck"):
            await proof
        await traffic.until(lambda: active.ready == 1)
        old_traffic.busy.clear()
        world.scheduler.poke()
        await leaving

    run(test)


async def _proof(world: World, new: Pool, before: list[Pool]) -> None:
    async with world.scheduler.proving(new, before, lambda: None):
        await new.prove()
