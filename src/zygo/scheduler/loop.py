"""Keeps every pool at its wanted size: decides when poked (a request waits, a container ended) and when time says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zygo.scheduler.autoscaler import decide, during_switch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from zygo.model import ScalePolicy
    from zygo.scheduler.pool import Pool

TICK = 5.0
"""Seconds between looks at everything, whatever was or was not poked: notify for speed, look for truth."""

STARTS_PER_CORE = 4
"""Containers that may be starting at once. A start is milliseconds of work; more at once only make the first ones later."""


@dataclass(eq=False)
class _Proof:
    """A pool whose first container is proven before it takes over from those in `before`; `room` is done once there is room for
    it."""

    before: tuple[Pool, ...]
    room: asyncio.Future[None]

    def has_room(self, policy: ScalePolicy, policies: Sequence[ScalePolicy]) -> bool:
        limits = [each.max_containers for each in (policy, *policies)]
        most = max(0 if limit is None else limit for limit in limits)
        return None in limits or sum(old.total for old in self.before) <= most


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
        self._after: dict[Pool, tuple[Pool, ...]] = {}
        self._draining: dict[Pool, asyncio.Future[None]] = {}
        self._proving: dict[Pool, _Proof] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._poked = False
        self._full_said = False

    def add(self, pool: Pool, policy: ScalePolicy, after: Sequence[Pool] = ()) -> None:
        """Keep `pool` at what `policy` says from now on.

        `after` are the pools of the same function that it replaces: while they drain, the function has at most one
        container more than its max_containers over all of them.
        """
        self._pools[pool] = policy
        self._after[pool] = tuple(after)
        self.poke()

    @contextlib.asynccontextmanager
    async def proving(self, pool: Pool, before: Sequence[Pool], on_wait: Callable[[], None]) -> AsyncIterator[None]:
        """Around the proof of `pool`, which is to replace those in `before`: with its container, the function has one more than
        its max_containers at most, over all of them. Begins once there is room; `on_wait` is called when there is none yet.

        Room comes when draining containers have ended, or the active revision has an idle one: it is stopped, and the active
        revision has so many less until the proof is over.
        """
        proof = self._proving[pool] = _Proof(tuple(before), asyncio.get_running_loop().create_future())
        try:
            if not proof.has_room(self.policy(pool), [self.policy(old) for old in before]):
                on_wait()
                self.poke()
                await proof.room
            yield
        finally:
            del self._proving[pool]
            self.poke()

    def policy(self, pool: Pool) -> ScalePolicy:
        """What `pool` is kept at; its function's own policy when nothing else was said."""
        return self._pools.get(pool, pool.spec.policy)

    async def drain(self, pool: Pool) -> None:
        """Stop deciding for `pool`, let its containers finish what they serve; returns once they are gone. Several may
        wait for the same pool, and one that gives up leaves the others waiting."""
        self._forget(pool)
        pool.drain_all()
        if pool.empty:
            return
        future = self._draining.get(pool)
        if future is None:
            future = self._draining[pool] = asyncio.get_running_loop().create_future()
        self.poke()
        await asyncio.shield(future)

    def remove(self, pool: Pool) -> None:
        """Forget a pool that its owner closes."""
        self._forget(pool)
        future = self._draining.pop(pool, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _forget(self, pool: Pool) -> None:
        self._pools.pop(pool, None)
        self._after.pop(pool, None)

    def poke(self) -> None:
        """Decide soon: at the end of this turn of the loop, once for however many pokes."""
        if not self._poked:
            self._poked = True
            asyncio.get_running_loop().call_soon(self._run)

    @property
    def running(self) -> int:
        """Containers on this machine, starting and draining ones included."""
        return sum(pool.total for pool in (*self._pools, *self._draining))

    def close(self) -> None:
        """Stop deciding."""
        if self._timer is not None:
            self._timer.cancel()
        self._pools.clear()
        self._after.clear()

    def _run(self) -> None:
        self._poked = False
        now = self._clock()
        times = [now + TICK] if self._pools else []
        wishes: dict[Pool, int] = {}
        for proven, proof in self._proving.items():
            if (
                proof.has_room(self.policy(proven), [self.policy(old) for old in proof.before])
                and not proof.room.done()
            ):
                proof.room.set_result(None)
        for pool, policy in list(self._pools.items()):
            wishes[pool], check_at = self._decide(pool, policy, now)
            if check_at is not None:
                times.append(check_at)
        self._grant(wishes)
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

    def _decide(self, pool: Pool, policy: ScalePolicy, now: float) -> tuple[int, float | None]:
        """Stop what is surplus; returns how many to start, and when to look again (None: nothing is due)."""
        members = pool.members()
        in_flight = sum(pool.traffic.in_flight(m.id) for m in members)
        waiting = pool.traffic.waiting()
        leaving = sum(old.total for old in self._after.get(pool, ()))
        proven = [max(1, new.total) for new, proof in self._proving.items() if pool in proof.before]
        policy = during_switch(policy, leaving + sum(proven), 0 if proven else 1)
        decision = decide(
            policy, members, waiting=waiting, in_flight=in_flight, last_active=pool.traffic.last_active(), now=now
        )
        for container in decision.stop:
            pool.drain(container)
        start, due = decision.start, [pool.sweep(), decision.check_at]
        if start and not pool.may_start():
            if waiting and pool.failure is not None:
                pool.traffic.fail(pool.failure)
            start = 0
        elif start and not waiting and now < pool.restart_at:
            start = 0
            due.append(pool.restart_at)
        return start, min([t for t in due if t is not None], default=None)

    def _grant(self, wishes: dict[Pool, int]) -> None:
        """Start what was wished for as far as there is room: one for the function that has fewest, then the next."""
        wishes = {pool: count for pool, count in wishes.items() if count}
        starting = sum(pool.starting for pool in self._pools)
        running = self.running
        while wishes and starting < self.max_starting and running < self.max_containers:
            pool = min(wishes, key=lambda each: each.size)
            pool.start_one()
            starting, running = starting + 1, running + 1
            wishes[pool] -= 1
            if not wishes[pool]:
                del wishes[pool]
        if wishes and running >= self.max_containers:
            self._make_room(wishes)

    def _make_room(self, starving: dict[Pool, int]) -> None:
        """At the cap: stop containers that are idle, the longest idle first; when there is none, a function that has at
        least two more than a starving one gives up a container, which finishes what it serves first."""
        leaving = sum(pool.total - pool.size for pool in self._pools)
        if leaving >= len(starving):
            return
        idle = [
            (member.idle_since, pool, member.id)
            for pool, policy in self._pools.items()
            if pool not in starving and pool.size > policy.min_containers
            for member in pool.members()
            if member.idle_since is not None
        ]
        for _, pool, container in sorted(idle, key=lambda item: item[0] or 0.0)[: len(starving) - leaving]:
            pool.drain(container)
        if idle or leaving:
            return
        if not self._full_said:
            self._full_said = True
            text = f"The machine's cap of {self.max_containers} containers is reached; requests wait."
            next(iter(starving)).log("", f"{text} ZYGO_MAX_CONTAINERS sets another one.")
        poorest = min(pool.size for pool in starving)
        richest = max(self._pools, key=lambda pool: pool.size)
        if richest.size >= poorest + 2 and richest.size > self._pools[richest].min_containers:
            richest.drain(richest.members()[0].id)
