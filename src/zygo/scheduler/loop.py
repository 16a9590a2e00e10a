"""Keeps every pool at its wanted size: decides when poked (a request waits, a container ended) and when time says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from zygo.model import ScalePolicy
from zygo.scheduler.autoscaler import decide
from zygo.scheduler.pool import Pool

TICK = 5.0
"""Seconds between looks at everything, whatever was or was not poked: notify for speed, look for truth."""

STARTS_PER_CORE = 4
"""Containers that may be starting at once. A start is milliseconds of work; more at once only make the first ones later."""


class Scheduler:
    """Decides for every pool that was added.

    Arguments:
        max_containers: on this machine at once, over all pools.
        clock: seconds, monotonic.
    """

    def __init__(self, max_containers: int, clock: Callable[[], float]) -> None:
        self.max_containers = max_containers
        self.max_starting = STARTS_PER_CORE * (os.cpu_count() or 1)
        self._clock = clock
        self._pools: dict[Pool, ScalePolicy] = {}
        self._draining: dict[Pool, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._poked = False
        self._full_said = False

    def add(self, pool: Pool, policy: ScalePolicy) -> None:
        """Keep `pool` at what `policy` says from now on."""
        self._pools[pool] = policy
        self.poke()

    async def drain(self, pool: Pool) -> None:
        """Stop deciding for `pool`, let its containers finish what they serve; returns once they are gone."""
        self._pools.pop(pool, None)
        pool.drain_all()
        if pool.empty:
            return
        future = self._draining[pool] = asyncio.get_running_loop().create_future()
        self.poke()
        await future

    def remove(self, pool: Pool) -> None:
        """Forget a pool that its owner closes."""
        self._pools.pop(pool, None)
        future = self._draining.pop(pool, None)
        if future is not None and not future.done():
            future.set_result(None)

    def poke(self) -> None:
        """Decide soon: at the end of this turn of the loop, once for however many pokes."""
        if not self._poked:
            self._poked = True
            asyncio.get_running_loop().call_soon(self._run)

    @property
    def running(self) -> int:
        """Containers on this machine, starting and draining ones included."""
        return sum(len(pool.members()) for pool in self._pools) + sum(pool.total for pool in self._draining)

    def close(self) -> None:
        """Stop deciding."""
        if self._timer is not None:
            self._timer.cancel()
        self._pools.clear()

    def _run(self) -> None:
        self._poked = False
        now = self._clock()
        times = [now + TICK] if self._pools else []
        starving: list[Pool] = []
        for pool, policy in list(self._pools.items()):
            check_at = self._decide(pool, policy, now, starving)
            if check_at is not None:
                times.append(check_at)
        if starving:
            self._make_room(starving)
        for pool, future in list(self._draining.items()):
            deadline = pool.sweep()
            pool.drain_all()
            if deadline is not None:
                times.append(deadline)
            if pool.empty:
                del self._draining[pool]
                if not future.done():
                    future.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if times:
            delay = max(0.001, min(times) - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._run)

    def _decide(self, pool: Pool, policy: ScalePolicy, now: float, starving: list[Pool]) -> float | None:
        members = pool.members()
        in_flight = sum(pool.traffic.in_flight(m.id) for m in members)
        waiting = pool.traffic.waiting()
        decision = decide(
            policy, members, waiting=waiting, in_flight=in_flight, last_active=pool.traffic.last_active(), now=now
        )
        for container in decision.stop:
            pool.drain(container)
        deadline = pool.sweep()
        if decision.start and not pool.may_start():
            if waiting and pool.failure is not None:
                pool.traffic.fail(pool.failure)
            return min([t for t in (deadline, decision.check_at) if t is not None], default=None)
        for _ in range(decision.start):
            if sum(p.starting for p in self._pools) >= self.max_starting:
                break
            if self.running >= self.max_containers:
                starving.append(pool)
                break
            pool.start_one()
        return min([t for t in (deadline, decision.check_at) if t is not None], default=None)

    def _make_room(self, starving: list[Pool]) -> None:
        """Stop the longest idle container of a pool that has one to spare, so that a starving one can start."""
        idle = [
            (member.idle_since, pool, member.id)
            for pool, policy in self._pools.items()
            if pool not in starving and len(pool.members()) > policy.min_containers
            for member in pool.members()
            if member.idle_since is not None
        ]
        for _, pool, container in sorted(idle, key=lambda item: item[0] or 0.0)[: len(starving)]:
            pool.drain(container)
        if not idle and not self._full_said:
            self._full_said = True
            starving[0].log(
                "",
                f"The machine's cap of {self.max_containers} containers is reached; requests wait (ZYGO_MAX_CONTAINERS).",
            )
