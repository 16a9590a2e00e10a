"""The containers of one function of one revision: started, ready, draining, gone."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zygo.errors import ContainerError, Error
from zygo.model import ContainerState, FunctionSpec
from zygo.scheduler.autoscaler import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.base import Container, Revision

BOOT_FAILURES = 3
"""In a row, before the revision is given up instead of trying again: the rule of gunicorn's arbiter for boot errors."""

RETRY_AFTER = 5.0
"""Seconds after which a function that could not start is tried again on the next request."""

YOUNG_SECONDS = 10.0
"""A container that dies sooner after it became ready counts towards the backoff below."""

RESTART_DELAY, RESTART_DELAY_LIMIT = 0.1, 10.0
"""Seconds, doubled with each young death in a row from the second on: how long a container that nobody waits for (of
min_containers) is not replaced. A request that waits starts one at once."""


class Traffic(Protocol):
    """What a pool needs from the gateway: the requests of its containers. Implemented in server/."""

    def waiting(self) -> int:
        """Requests held for this function, when its new ones come to this pool; else 0."""

    def in_flight(self, container: str) -> int:
        """Requests that this container is serving."""

    def idle_since(self, container: str) -> float | None:
        """When it last became idle; None while it is busy."""

    def last_active(self) -> float | None:
        """When a request of this function last arrived or ended."""

    def add(self, container: Container, fork_seconds: float) -> None:
        """Send requests to it."""

    def remove(self, container: str) -> None:
        """Send it no new requests; those in flight go on."""

    def fail(self, error: Error) -> None:
        """Refuse every request that waits, with this reason."""


@dataclass
class _Entry:
    container: Container
    state: ContainerState = ContainerState.STARTING
    stopping: asyncio.Task[int] | None = None
    drain_deadline: float = 0.0
    ready_at: float = 0.0


@dataclass(eq=False)
class Pool:
    """One pool. Its owner calls `reconcile`-like methods; the pool itself never decides how many.

    Attributes:
        revision, spec: what runs.
        traffic: its requests.
        clock: seconds, monotonic.
        changed: called whenever a container became ready, ended, or could not start: time to decide again.
        grace: seconds a stopped container has for `lifespan` shutdown and what is in flight.
        restart_at: until then (by the clock) nothing is started unless a request waits for it.
    """

    revision: Revision
    spec: FunctionSpec
    traffic: Traffic
    clock: Callable[[], float]
    changed: Callable[[], None]
    log: Callable[[str, str], None]
    grace: float
    failure: Error | None = None
    failed_at: float = 0.0
    restart_at: float = 0.0
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _pending: set[asyncio.Task[None]] = field(default_factory=set)
    _proofs: list[asyncio.Future[None]] = field(default_factory=list)
    _boot_failures: int = 0
    _counted_at: float = 0.0
    _young_deaths: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def size(self) -> int:
        """Containers starting or ready, those whose fork is being asked for included."""
        return len(self._pending) + sum(
            e.state in (ContainerState.STARTING, ContainerState.READY) for e in self._entries.values()
        )

    @property
    def ready(self) -> int:
        """Containers that take requests."""
        return sum(e.state is ContainerState.READY for e in self._entries.values())

    @property
    def starting(self) -> int:
        """Containers on their way."""
        return len(self._pending) + sum(e.state is ContainerState.STARTING for e in self._entries.values())

    @property
    def total(self) -> int:
        """Every container, draining ones included."""
        return len(self._pending) + len(self._entries)

    @property
    def empty(self) -> bool:
        """Nothing of this pool runs any more, draining containers included."""
        return not self._entries and not self._pending

    def members(self) -> list[Member]:
        """What the autoscaler looks at."""
        found = [
            Member(i, self.traffic.idle_since(i) if e.state is ContainerState.READY else None)
            for i, e in self._entries.items()
            if e.state in (ContainerState.STARTING, ContainerState.READY)
        ]
        return found + [Member(f"pending-{n}", None) for n in range(len(self._pending))]

    def may_start(self) -> bool:
        """Whether a start makes sense: not while the last failures are fresh."""
        if self.failure is None:
            return True
        if self.clock() - self.failed_at < RETRY_AFTER:
            return False
        self.failure, self._boot_failures = None, 0
        return True

    def start_one(self) -> None:
        """Ask for one more container; `changed` is called when it is ready or has failed."""
        task = self._spawn(self._live(), f"container of {self.spec.name}")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def prove(self) -> None:
        """Start a container and return once one is ready. Raises Error (with the user's traceback) when it cannot start.

        Bounded by the function's startup timeout. The container stays, and is stopped like any other that is idle.
        """
        proof: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proofs.append(proof)
        self.start_one()
        try:
            await proof
        finally:
            if proof in self._proofs:
                self._proofs.remove(proof)

    def drain(self, container: str) -> None:
        """No new requests to it; stopped once idle, at the latest after the function's timeout."""
        entry = self._entries.get(container)
        if entry is None or entry.state not in (ContainerState.STARTING, ContainerState.READY):
            return
        self.traffic.remove(container)
        entry.state = ContainerState.DRAINING
        entry.drain_deadline = self.clock() + self.spec.timeout
        self.sweep()

    def drain_all(self) -> None:
        """Drain every container."""
        for container in list(self._entries):
            self.drain(container)

    def sweep(self) -> float | None:
        """Stop draining containers that are idle or out of time. Returns the next deadline among the others."""
        deadlines = []
        for container, entry in list(self._entries.items()):
            if entry.state is not ContainerState.DRAINING or entry.stopping is not None:
                continue
            if self.traffic.in_flight(container) == 0 or self.clock() >= entry.drain_deadline:
                entry.stopping = asyncio.get_running_loop().create_task(
                    entry.container.stop(self.grace), name=f"stop {container}"
                )
            else:
                deadlines.append(entry.drain_deadline)
        return min(deadlines, default=None)

    def kill(self, container: str, reason: str) -> None:
        """Stop one now: its handler hangs, or it broke the protocol."""
        entry = self._entries.get(container)
        if entry is None:
            return
        self.traffic.remove(container)
        entry.state = ContainerState.DRAINING
        self.log(container, reason)
        if entry.stopping is None:
            entry.stopping = asyncio.get_running_loop().create_task(entry.container.stop(0.0), name=f"kill {container}")

    async def close(self, grace: float) -> None:
        """Stop everything; returns once it is gone."""
        for task in list(self._pending):
            task.cancel()
        if self._pending:
            await asyncio.wait(self._pending)
        for container, entry in list(self._entries.items()):
            self.traffic.remove(container)
            entry.state = ContainerState.DRAINING
            if entry.stopping is None:
                entry.stopping = asyncio.get_running_loop().create_task(
                    entry.container.stop(grace), name=f"stop {container}"
                )
        stops = [e.stopping for e in self._entries.values() if e.stopping is not None]
        if stops:
            await asyncio.gather(*stops, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._proven(ContainerError(f"{self.spec.name} was stopped while it started."))

    async def _live(self) -> None:
        """The life of one container, from the fork request until nothing of it is left."""
        began = self.clock()
        try:
            if self.spec.variant is None:
                container = await self.revision.start(self.spec.name)
            else:
                container = await self.revision.start(self.spec.variant.of, self.spec)
        except (Error, OSError) as error:
            self._not_pending()
            self._boot_failed(
                error if isinstance(error, Error) else ContainerError(f"No container can be made: {error}"), began
            )
            return
        entry = self._entries[container.id] = _Entry(container)
        self._not_pending()
        failure = await self._boot(container)
        if failure is None and entry.state is ContainerState.STARTING:
            self._boot_failures = 0
            entry.state, entry.ready_at = ContainerState.READY, self.clock()
            self.traffic.add(container, entry.ready_at - began)
            self._proven(None)
            self.changed()
        await asyncio.shield(container.exited)
        self._ended(entry, failure, began)

    async def _boot(self, container: Container) -> Error | None:
        """Wait until it is ready; otherwise why it is not."""
        limit = self.spec.startup_timeout or self.spec.timeout
        try:
            await asyncio.wait_for(asyncio.shield(container.ready), limit)
        except TimeoutError:
            await container.stop(0.0)
            text = f"{self.spec.name} was not ready in {limit:g} s. Raise startup_timeout, or make its start faster."
            return ContainerError(text)
        except ContainerError as error:
            await asyncio.shield(container.exited)
            cause = error.traceback.rstrip().rpartition("\n")[2] or container.reason() or error
            return ContainerError(f"{self.spec.name} could not start: {cause}", error.traceback)
        return None

    def _ended(self, entry: _Entry, error: Error | None, began: float) -> None:
        container, state = entry.container, entry.state
        del self._entries[container.id]
        self.traffic.remove(container.id)
        if state is ContainerState.STARTING and error is not None:
            self._boot_failed(error, began)
        elif state is ContainerState.READY:
            self.log(container.id, f"The container of {self.spec.name} died: {container.reason()}.")
            self._died_at_age(self.clock() - entry.ready_at)
        self.changed()

    def _not_pending(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._pending.discard(task)

    def _died_at_age(self, seconds: float) -> None:
        self._young_deaths = self._young_deaths + 1 if seconds < YOUNG_SECONDS else 0
        if self._young_deaths > 1:
            delay = RESTART_DELAY * 2 ** min(self._young_deaths - 2, 20)
            self.restart_at = self.clock() + min(delay, RESTART_DELAY_LIMIT)

    def _proven(self, error: Error | None) -> None:
        proofs, self._proofs = self._proofs, []
        for proof in proofs:
            if proof.done():
                continue
            if error is None:
                proof.set_result(None)
            else:
                proof.set_exception(error)

    def _boot_failed(self, error: Error, began: float) -> None:
        if self._proofs:
            # Whoever asks for the proof tells the user, once; nothing waits for this pool yet.
            self._proven(error)
            return
        if self._boot_failures and began < self._counted_at:
            # One cause (a zygote that was killed) can end several starts at once: in a row are those that began after
            # the failure before them.
            self.changed()
            return
        self._boot_failures += 1
        self._counted_at = self.clock()
        if self._boot_failures == 1 or self._boot_failures >= BOOT_FAILURES:
            self.log("", str(error))
            for line in getattr(error, "traceback", "").rstrip().splitlines() if self._boot_failures == 1 else []:
                self.log("", line)
        if self._boot_failures >= BOOT_FAILURES:
            self.failure, self.failed_at = error, self.clock()
            self.traffic.fail(error)
        self.changed()

    def _spawn(self, coroutine: object, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
