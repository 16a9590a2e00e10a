"""The inputs of one function that wait for their result, on their way through the same waiting line as live calls.

The store has them all; here are some hundreds of the next ones, and those that are at work. At work are at most as many as the
function's containers take (fewer while it shows to be short, see sdk/pace.py), so that a live request waits behind one round of
them and never behind a million.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from zygo.errors import Error, RequestSizeError, StoreError
from zygo.errors import TimeoutError as WaitTimeoutError
from zygo.gateway import outcomes
from zygo.gateway.admission import QueueFullError
from zygo.gateway.attempt import NotBegunError, attempt
from zygo.gateway.direct import DiedError, TooLargeError
from zygo.sdk.pace import FIRST, Pace
from zygo.store.calls import Payload
from zygo.store.payloads import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.gateway.attempt import Answer
    from zygo.gateway.container import Backend
    from zygo.gateway.direct import Connections
    from zygo.gateway.routes import Endpoint
    from zygo.model import RetryPolicy
    from zygo.store.calls import CallStore, Outcome, PendingInput

log = logging.getLogger("zygo.calls")

PAGE = 256
"""Inputs that are read from the store at once."""

PAUSE = 0.1
"""Seconds after which it is tried again when live requests fill the waiting line."""

BOOT_PAUSE = 5.0
"""Seconds after which a function that could not start is tried again: as long as it refuses (scheduler/pool.py)."""

WAIT_SECONDS = 3600.0
"""For a container. Then it is asked for again; a spawned input waits as long as it takes."""

EXPLAIN_SECONDS = 5.0
"""At most, until it is known why a container ended. It may not have ended at all, and have closed the connection alone."""

RECONCILE_SECONDS = 60.0
"""Between two looks into the store when nothing is known to be there."""

UNRECORDED = 1000
"""Results that wait to be written before nothing more is begun: the database is away."""


@dataclass(frozen=True)
class Callee:
    """A function that inputs can go to now.

    `capacity` is how many it can have at work, `parallel` how many of them in one container. `kill` ends a container.
    """

    endpoint: Endpoint
    retries: RetryPolicy | None
    capacity: int
    parallel: int
    kill: Callable[[Backend], None]


class Owner(Protocol):
    """What a backlog needs from the dispatcher."""

    store: CallStore
    connections: Connections
    closing: bool

    def find(self, function_id: str) -> Callee | None:
        """The function, unless it cannot be called at the moment."""

    def record(self, backlog: Backlog, given: PendingInput, outcome: Outcome) -> None:
        """Have `outcome` written down; `settled` is called after that."""


class Backlog:
    """One function's. `pending` counts its inputs without a result, in the store and here."""

    def __init__(self, owner: Owner, function_id: str, pending: int) -> None:
        self.function_id = function_id
        self.pending = pending
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._queue: deque[PendingInput] = deque()
        self._taken: dict[int, str] = {}
        """Position -> call of those that are in the queue, at work, or being recorded."""
        self._at_work: dict[int, tuple[asyncio.Task[None], PendingInput]] = {}
        self._backends: dict[int, Backend] = {}
        self._pace: Pace | None = None
        self._look_at = 0.0
        """Nothing but what is taken can be begun before this time."""
        self._pause_until = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._meanwhile: set[int | str] = set()
        """Inputs and calls that were settled while a page was being read, which may still show them."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Inputs that are not at work."""
        return max(0, self.pending - len(self._at_work))

    @property
    def idle(self) -> bool:
        """Nothing of it is left."""
        return self.pending <= 0 and not self._taken and self._fetching is None

    def at_work(self, call_id: str) -> int:
        """Inputs of a call that are at work."""
        return sum(given.call_id == call_id for _, given in self._at_work.values())

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The attempts under way."""
        return [task for task, _ in self._at_work.values()]

    def add(self, given: list[PendingInput], count: int) -> None:
        """`count` inputs were accepted, `given` among them when their payloads are at hand."""
        # Straight on, when nothing is in the store that came before them.
        if len(given) == count and self.pending == len(self._taken) and len(self._queue) + count <= PAGE:
            self._take(given)
        else:
            self._look_at = 0.0
        self.pending += count
        self.advance()

    def drop(self, call_ids: set[str], count: int, *, kill: bool = False) -> None:
        """`count` inputs of these calls were cancelled: none of them begins, those at work are stopped.

        `kill`: their containers are ended too, whatever else is at work in them.
        """
        self.pending -= count
        if self._fetching is not None:
            self._meanwhile |= call_ids
        for given in [each for each in self._queue if each.call_id in call_ids]:
            self._queue.remove(given)
            self._taken.pop(given.position, None)
        callee = self._owner.find(self.function_id) if kill else None
        for task, given in list(self._at_work.values()):
            if given.call_id in call_ids:
                backend = self._backends.get(given.position)
                task.cancel()
                if callee is not None and backend is not None:
                    callee.kill(backend)

    def settled(self, given: PendingInput, outcome: Outcome, final: bool) -> None:
        """An outcome was written down; `final`: it was the input's result."""
        self._release(given.position)
        if final:
            self.pending -= 1
        elif outcome.due_at:
            self._look_at = min(self._look_at, outcome.due_at)

    def advance(self) -> None:
        """Begin what can begin, and see to it that this is called again when more can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        callee = None if self._owner.closing else self._owner.find(self.function_id)
        if callee is None:
            return
        now = self._loop.time()
        free = self._free(callee, now)
        while self._queue and free > 0:
            self._begin(callee, self._queue.popleft())
            free -= 1
        wall = time.time()
        if not self._queue and self.pending > len(self._taken) and self._fetching is None and self._look_at <= wall:
            self._fetching = self._loop.create_task(self._fetch(), name=f"inputs of {self.function_id}")
        self._set_timer(now, wall)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _free(self, callee: Callee, now: float) -> int:
        if self._pace is None or not self._at_work:
            # It counts from the last answer, which may be long ago.
            self._pace = Pace(callee.capacity, callee.parallel, PAGE, now)
        if now < self._pause_until or len(self._taken) - len(self._at_work) - len(self._queue) >= UNRECORDED:
            return 0
        most = min(max(callee.capacity, FIRST), callee.endpoint.admission.max_waiting // 2 + 1)
        return min(self._pace.window(now), most) - len(self._at_work)

    def _set_timer(self, now: float, wall: float) -> None:
        delays = []
        if self._queue and self._pace is not None:
            delays.append(max(self._pause_until - now, self._pace.look_again(now)))
        if self.pending > len(self._taken) and self._fetching is None:
            delays.append(self._look_at - wall)
        if delays:
            self._timer = self._loop.call_later(max(0.001, min(delays)), self.advance)

    async def _fetch(self) -> None:
        wall = time.time()
        # Whatever is added or set back from here on brings it forward again.
        self._look_at = wall + RECONCILE_SECONDS
        try:
            found, later = await self._owner.store.due(self.function_id, wall, PAGE, frozenset(self._taken))
            self._take([g for g in found if g.position not in self._meanwhile and g.call_id not in self._meanwhile])
            if len(found) == PAGE:
                later = 0.0
            self._look_at = self._look_at if later is None else min(later, self._look_at)
        except StoreError as error:
            log.error("inputs of %s cannot be read: %s", self.function_id, error)
            self._look_at = time.time() + 1.0
        finally:
            self._fetching = None
            self._meanwhile.clear()
        self.advance()

    def _take(self, given: list[PendingInput]) -> None:
        self._queue.extend(given)
        self._taken.update({each.position: each.call_id for each in given})

    def _release(self, position: int) -> None:
        self._taken.pop(position, None)
        if self._fetching is not None:
            self._meanwhile.add(position)

    def _begin(self, callee: Callee, given: PendingInput) -> None:
        task = self._loop.create_task(self._run(callee, given), name=f"{given.call_id} {given.number}")
        self._at_work[given.position] = (task, given)

    async def _run(self, callee: Callee, given: PendingInput) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self._attempt(callee, given)
        except QueueFullError:
            # Live requests fill the line; they go first.
            self._pause_until = self._loop.time() + PAUSE
        except (NotBegunError, WaitTimeoutError):
            pass
        except asyncio.CancelledError:
            # It was cancelled, or the server ends, after which it is tried again.
            self._at_work.pop(given.position, None)
            self._backends.pop(given.position, None)
            self._release(given.position)
            raise
        except Exception as error:
            log.exception("an attempt at %s failed", given.call_id)
            outcome = outcomes.lost(given, callee.endpoint.function, f"{type(error).__name__}: {error}", time.time())
        self._at_work.pop(given.position, None)
        self._backends.pop(given.position, None)
        if outcome is not None:
            self._owner.record(self, given, outcome)
        else:
            self._queue.appendleft(given)
        self.advance()

    async def _attempt(self, callee: Callee, given: PendingInput) -> Outcome | None:
        endpoint, name = callee.endpoint, callee.endpoint.function
        files = self._owner.store.files
        try:
            data = given.payload.data
            if data is None:
                data = await asyncio.to_thread(files.get, given.payload.file or "")
        except OSError as error:
            text = f"The arguments of {name} are lost: {error.strerror or error}"
            return outcomes.refused(given, StoreError(text))
        try:
            slot = await endpoint.admission.wait(self._loop.time() + WAIT_SECONDS)
        except (QueueFullError, WaitTimeoutError):
            raise
        except Error as error:
            return outcomes.lost(given, name, str(error).rstrip("."), time.time(), BOOT_PAUSE)
        self._backends[given.position] = slot.backend
        try:
            answer = await attempt(self._owner.connections, endpoint, slot, given, data)
        except DiedError as error:
            return await self._lost(callee, given, slot.backend, str(error))
        except TooLargeError as error:
            return outcomes.refused(
                given, RequestSizeError(f"{name}: {error}. Write it to a file and return its name.")
            )
        except TimeoutError:
            text = f"{name} did not finish within its timeout and was ended."
            return outcomes.timed_out(given, text, callee.retries, time.time())
        return await self._answered(callee, given, answer)

    async def _answered(self, callee: Callee, given: PendingInput, answer: Answer) -> Outcome:
        if self._pace is not None:
            self._pace.answered(answer.seconds, self._loop.time())
        payload = Payload(answer.data)
        if len(answer.data) > INLINE_BYTES:
            payload = Payload(None, await asyncio.to_thread(self._owner.store.files.put, answer.data))
        return outcomes.answered(given, answer.kind, payload, callee.retries, time.time())

    async def _lost(self, callee: Callee, given: PendingInput, backend: Backend, reason: str) -> Outcome:
        if given.losses + 1 >= outcomes.MAX_LOSSES:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(backend.gone.wait(), EXPLAIN_SECONDS)
            reason = callee.endpoint.explain(backend) or reason
        return outcomes.lost(given, callee.endpoint.function, reason, time.time())
