"""Who may go now: one function's waiting line in front of its containers.

One per function, for as long as the function exists: revisions come and go beneath it (`set_backends`), a request that
waits is given to whichever revision is active when a place frees up. First come, first served; the line is bounded, and
over the bound the answer is a prompt refusal. Everything runs on the loop's thread and nothing here awaits, so a grant
is one function call: at the default of one request per container, waiting *is* the warm path under load.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from zygo.errors import ResourceExhaustedError, TimeoutError
from zygo.gateway.balancer import pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zygo.gateway.container import Backend

SUSPECT_SECONDS = 0.1
"""How long a container is left alone after a connection to it died: the time a dying process needs until it can be
waited for. If it lives (an application may close a connection), it is used again."""


class Handle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time and timers; an asyncio event loop is one."""

    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle: ...


class Waiter(Protocol):
    """Who waits in the line. Exactly one of the two is called, once, unless the waiter leaves with `cancel`."""

    def granted(self, slot: Slot) -> None: ...
    def refused(self, error: Exception) -> None: ...


class QueueFullError(ResourceExhaustedError):
    """Too many requests wait for this function already."""

    http_status = 503


class Slot:
    """The right to have one request in `backend`, until it is given to `Admission.release`."""

    __slots__ = ("backend", "open")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.open = True


class Admission:
    """One function's waiting line and its active revision's ready containers.

    `max_waiting` bounds the line. `clock` is the event loop. `on_wait()` is called whenever a request begins to wait,
    also one that lost its place and waits on: the scheduler's poke. `on_change` holds listeners that are called when
    the line, the set of containers or the hold changed (not on every request).
    """

    def __init__(self, *, max_waiting: int, clock: Clock, on_wait: Callable[[], None] = lambda: None) -> None:
        self.max_waiting = max_waiting
        self.on_wait = on_wait
        self.on_change: list[Callable[[], None]] = []
        self.in_flight = 0
        self.failure: Exception | None = None
        self._clock = clock
        self._backends: list[Backend] = []
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._hold: Handle | None = None
        self.made_at = clock.time()
        self._last_active: float | None = None
        self._pumping = False

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The active revision's ready containers."""
        return tuple(self._backends)

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._waiters)

    @property
    def held(self) -> bool:
        """Whether nothing is admitted at the moment."""
        return self._hold is not None

    @property
    def last_active(self) -> float | None:
        """When a request was last waiting or in flight, by the clock: now, while there is one; None when none came yet."""
        return self._clock.time() if self.in_flight or self._waiters else self._last_active

    # -- requests ---------------------------------------------------------------------------------------------------

    def try_acquire(self) -> Slot | None:
        """A slot now, or None: then `enqueue`. Never overtakes a request that waits."""
        if self._waiters or self._hold is not None:
            return None
        backend = pick(self._backends)
        if backend is None:
            return None
        return self._slot(backend)

    def _slot(self, backend: Backend) -> Slot:
        backend.in_flight += 1
        self.in_flight += 1
        if backend.single_use:
            backend.accepting = False
        return Slot(backend)

    def enqueue(self, waiter: Waiter, *, front: bool = False) -> None:
        """Put `waiter` into the line; `front` is for one that had its place before and lost it.

        Raises QueueFullError when the line is full, and what `fail(lasting=True)` said while that lasts.
        """
        if self.failure is not None:
            raise self.failure
        if len(self._waiters) >= self.max_waiting and not front:
            raise QueueFullError(
                f"{len(self._waiters)} requests wait for this function already, which is its limit; try again later"
            )
        self._waiters[waiter] = None
        if front:
            self._waiters.move_to_end(waiter, last=False)
        self.on_wait()
        self._changed()
        # A container may have become ready in those callbacks, or have had room all the time.
        self._pump()

    def cancel(self, waiter: Waiter) -> None:
        """Take `waiter` out of the line; nothing happens when it is not in it."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            self._settle()
            self._changed()

    async def wait(self, deadline: float) -> Slot:
        """A slot, at the latest at `deadline` (by the clock). Raises QueueFullError, TimeoutError or what `fail` said.

        Cancelling the caller leaves the line, and gives back a slot that was granted in the same moment.
        """
        waiter = _FutureWaiter(self)
        slot = self.try_acquire()
        if slot is not None:
            return slot
        self.enqueue(waiter)
        timer = self._clock.call_later(deadline - self._clock.time(), waiter.expired)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            waiter.abandon()
            raise
        finally:
            timer.cancel()
            self.cancel(waiter)

    def release(self, slot: Slot) -> None:
        """The request of `slot` ended. The first one in the line goes at once. May be called twice."""
        if not slot.open:
            return
        slot.open = False
        self.in_flight -= 1
        slot.backend.finished_one()
        if self._waiters:
            self._pump()
        elif not self.in_flight:
            self._last_active = self._clock.time()

    # -- containers -------------------------------------------------------------------------------------------------

    def set_backends(self, backends: Iterable[Backend]) -> None:
        """Another revision is active: from now on requests go to `backends` only. Those that left drain."""
        fresh = list(backends)
        for backend in self._backends:
            if backend not in fresh:
                backend.accepting = False
        self._backends = fresh
        self._backends_changed()

    def add(self, backend: Backend) -> None:
        """`backend` is ready. Adding it twice changes nothing."""
        if backend not in self._backends:
            self._backends.append(backend)
            self._backends_changed()

    def remove(self, backend: Backend) -> None:
        """Nothing more goes to `backend`; what is in flight there ends there. May be called twice."""
        backend.accepting = False
        if backend in self._backends:
            self._backends.remove(backend)
            self._changed()

    def suspect(self, backend: Backend) -> None:
        """A connection to `backend` died: leave it alone for SUSPECT_SECONDS, unless it is removed by then."""
        if backend.accepting and backend in self._backends:
            backend.accepting = False
            self._clock.call_later(SUSPECT_SECONDS, self._acquit, backend)

    def _acquit(self, backend: Backend) -> None:
        if backend in self._backends and not backend.accepting:
            backend.accepting = True
            self._pump()

    def _backends_changed(self) -> None:
        if self._backends:
            self.failure = None
        self._changed()
        self._pump()

    # -- hold and failure -------------------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Admit nothing until `unhold`, for at most `seconds`: new code is on its way. A second call starts anew."""
        if self._hold is not None:
            self._hold.cancel()
        self._hold = self._clock.call_later(seconds, self.unhold)
        self._changed()

    def unhold(self) -> None:
        """Go on. May be called when nothing is held."""
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
            self._changed()
            self._pump()

    def fail(self, error: Exception, *, lasting: bool = False) -> None:
        """Refuse everyone in the line with `error`; with `lasting` everyone to come too, until there is a container."""
        self.failure = error if lasting else None
        waiters = list(self._waiters)
        self._waiters.clear()
        self._settle()
        for waiter in waiters:
            waiter.refused(error)
        self._changed()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        # granted() may connect, fail and release at once; without the guard one level of stack per dead container.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._waiters and self._hold is None:
                backend = pick(self._backends)
                if backend is None:
                    break
                waiter, _ = self._waiters.popitem(last=False)
                waiter.granted(self._slot(backend))
        finally:
            self._pumping = False

    def _settle(self) -> None:
        if not self.in_flight and not self._waiters:
            self._last_active = self._clock.time()

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()


class _FutureWaiter:
    """A waiter for `await`."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self.slot: Slot | None = None

    def granted(self, slot: Slot) -> None:
        if self.future.done():
            self.admission.release(slot)
        else:
            self.slot = slot
            self.future.set_result(slot)

    def refused(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def expired(self) -> None:
        self.refused(TimeoutError("no container became free in time"))

    def abandon(self) -> None:
        if self.slot is not None:
            self.admission.release(self.slot)
