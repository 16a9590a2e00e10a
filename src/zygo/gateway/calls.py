"""Spawned calls: accepted into the store, attempted until each of their inputs has one result, waited for by whoever asks.

accept    checked and counted, on disk, acknowledged
attempt   `backlog` takes what is due, `attempt` sends it to a container as a live call is sent
record    results are written in one transaction for all that came meanwhile; then those who wait are woken
restart   whatever has no result is pending, and is attempted (again)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from zygo.errors import Error, ResourceExhaustedError, StoreError
from zygo.gateway import outcomes
from zygo.gateway.backlog import Backlog
from zygo.gateway.direct import Connections
from zygo.model import CallState
from zygo.store.calls import SWEPT, PendingInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zygo.gateway.backlog import Callee
    from zygo.store.calls import CallRecord, CallStore, Cancelled, NewCall, Outcome, Result

log = logging.getLogger("zygo.calls")

BATCH = 500
"""Results in one transaction."""

STORE_PAUSE = 1.0
"""Seconds until results are written again after the database failed."""

SWEEP_SECONDS = 3600.0
"""Between two looks for results that were kept long enough."""


class Dispatcher:
    """All spawned calls of one server.

    Arguments:
        store: where they are.
        find: the function of that id, while it can be called.
        max_pending: inputs without a result that one function may have.

    `poke` is to be called when functions come, go or change.
    """

    def __init__(self, store: CallStore, find: Callable[[str], Callee | None], max_pending: int) -> None:
        self.store = store
        self.connections = Connections()
        self.closing = False
        self._find = find
        self._max_pending = max_pending
        self._position = 0
        self._backlogs: dict[str, Backlog] = {}
        self._accepting: dict[str, int] = defaultdict(int)
        """Inputs by function that are on their way into the store: they count, too."""
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._results: list[tuple[Backlog, PendingInput, Outcome]] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # -- the server's life --------------------------------------------------------------------------------------------

    async def start(self, owners: Iterable[str]) -> None:
        """Take up what is pending; that of apps which are not among `owners` any more is cancelled."""
        await self.store.cancel_all_but(owners, outcomes.cancelled("its app has ended"), time.time())
        self._position = await self.store.last_position()
        for function_id, count in (await self.store.backlog()).items():
            self._backlogs[function_id] = Backlog(self, function_id, count)
        self._tasks = [
            asyncio.create_task(self._record_results(), name="results of calls"),
            asyncio.create_task(self._sweep(), name="sweep of calls"),
        ]
        self.poke()

    async def close(self, grace: float) -> None:
        """Begin nothing more; what is at work has `grace` seconds, and is attempted again by the next server if it takes
        longer. May be called twice."""
        self.closing = True
        for events in self._waiters.values():
            for event in events:
                event.set()
        at_work = [task for backlog in self._backlogs.values() for task in backlog.tasks]
        if at_work:
            _, late = await asyncio.wait(at_work, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
        if self._results and self._tasks:
            with contextlib.suppress(StoreError):
                await self._write()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        self.connections.close()

    def poke(self) -> None:
        """Look at every function anew."""
        for backlog in list(self._backlogs.values()):
            backlog.advance()

    # -- what callers ask for -----------------------------------------------------------------------------------------

    async def spawn(self, new: Sequence[NewCall]) -> list[int | Error]:
        """Accept calls, or more inputs of some, in one transaction. Returns once they are on disk.

        For each: how many inputs were added (0: they were there), or why none was: ResourceExhaustedError, ConflictError.
        """
        answers: list[int | Error] = []
        valid: list[NewCall] = []
        for call in new:
            error = self._too_many(call)
            answers.append(error or 0)
            if error is None:
                valid.append(call)
                self._accepting[call.function_id] += len(call.payloads)
        position = self._position + 1
        self._position += sum(len(call.payloads) for call in valid)
        try:
            added = await self.store.add(valid, time.time(), position) if valid else []
        finally:
            for call in valid:
                self._accepting[call.function_id] -= len(call.payloads)
        done = iter(zip(valid, added, strict=True))
        for place, answer in enumerate(answers):
            if isinstance(answer, Error):
                continue
            call, answers[place] = next(done)
            if isinstance(count := answers[place], int) and count:
                self._backlog(call.function_id).add(_given(call, position), count)
                position += count
        return answers

    async def call(self, call_id: str) -> CallRecord:
        """One call, with how many of its inputs are in each state. Raises NotFoundError."""
        found = await self.store.call(call_id)
        backlog = self._backlogs.get(found.function_id)
        running = backlog.at_work(call_id) if backlog is not None else 0
        if not running:
            return found
        states = dict(found.states)
        states[CallState.RUNNING.value] = running
        states[CallState.PENDING.value] = max(0, states.get(CallState.PENDING.value, 0) - running)
        return replace(found, states=states)

    async def results(self, wanted: Sequence[tuple[str, int]], seconds: float) -> list[Result | None]:
        """The results of inputs, by call and number, as soon as one of them is there, or after `seconds` without."""
        news = asyncio.Event()
        call_ids = {call_id for call_id, _ in wanted}
        # Before the store is asked: what is recorded in between must not be missed.
        for call_id in call_ids:
            self._waiters.setdefault(call_id, set()).add(news)
        try:
            async with asyncio.timeout(seconds) as limit:
                while True:
                    news.clear()
                    found = await asyncio.shield(self.store.results(wanted))
                    if self.closing or any(r is None or r.state is not CallState.PENDING for r in found):
                        return found
                    await news.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            return await self.store.results(wanted)
        finally:
            for call_id in call_ids:
                self._waiters[call_id].discard(news)
                if not self._waiters[call_id]:
                    del self._waiters[call_id]

    async def cancel(self, call_id: str, reason: str, *, kill: bool = False) -> int:
        """Cancel a call: what is pending never begins, what runs is stopped. Returns how many inputs.

        `kill`: the containers in which it runs are ended. Raises NotFoundError.
        """
        return self._ended(await self.store.cancel_call(call_id, outcomes.cancelled(reason), time.time()), kill=kill)

    async def cancel_app(self, owner: str, reason: str) -> int:
        """Cancel every call of an app, which has ended."""
        return self._ended(await self.store.cancel_owner(owner, outcomes.cancelled(reason), time.time()))

    async def cancel_function(self, function_id: str, reason: str) -> int:
        """Cancel every call of a function, which is gone."""
        said = outcomes.cancelled(reason)
        return self._ended(await self.store.cancel_function(function_id, said, time.time()))

    def waiting(self, function_id: str) -> int:
        """Inputs of a function that are not at work."""
        backlog = self._backlogs.get(function_id)
        return backlog.waiting if backlog is not None else 0

    def pending(self, function_id: str) -> int:
        """Inputs of a function without a result: those that wait for a repetition or a container, too."""
        backlog = self._backlogs.get(function_id)
        return (backlog.pending if backlog is not None else 0) + self._accepting.get(function_id, 0)

    # -- what backlogs ask for ----------------------------------------------------------------------------------------

    def find(self, function_id: str) -> Callee | None:
        """See backlog.Owner."""
        return self._find(function_id)

    def record(self, backlog: Backlog, given: PendingInput, outcome: Outcome) -> None:
        """See backlog.Owner."""
        self._results.append((backlog, given, outcome))
        self._news.set()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _too_many(self, call: NewCall) -> Error | None:
        backlog = self._backlogs.get(call.function_id)
        pending = (backlog.pending if backlog is not None else 0) + self._accepting[call.function_id]
        if pending + len(call.payloads) <= self._max_pending:
            return None
        return ResourceExhaustedError(
            f"{call.app}.{call.function}: {pending} spawned inputs have no result yet and {len(call.payloads)} more would be "
            f"above the limit of {self._max_pending}. Wait for some, or raise ZYGO_MAX_SPAWNED."
        )

    def _backlog(self, function_id: str) -> Backlog:
        found = self._backlogs.get(function_id)
        if found is None:
            found = self._backlogs[function_id] = Backlog(self, function_id, 0)
        return found

    def _ended(self, cancelled: Cancelled, *, kill: bool = False) -> int:
        call_ids = set(cancelled.call_ids)
        for function_id, count in cancelled.inputs.items():
            backlog = self._backlog(function_id)
            backlog.drop(call_ids, count, kill=kill)
            self._forget_if_idle(backlog)
        self._wake(call_ids)
        return sum(cancelled.inputs.values())

    def _wake(self, call_ids: Iterable[str]) -> None:
        for call_id in call_ids:
            for event in self._waiters.get(call_id, ()):
                event.set()

    def _forget_if_idle(self, backlog: Backlog) -> None:
        if backlog.idle and self._backlogs.get(backlog.function_id) is backlog:
            del self._backlogs[backlog.function_id]

    async def _record_results(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._results:
                try:
                    await self._write()
                except StoreError as error:
                    log.error("results of calls cannot be written, which is tried again: %s", error)
                    await asyncio.sleep(STORE_PAUSE)

    async def _write(self) -> None:
        batch = self._results[:BATCH]
        counted = await self.store.record([outcome for _, _, outcome in batch], time.time())
        del self._results[: len(batch)]
        backlogs = {}
        for (backlog, given, outcome), counts in zip(batch, counted, strict=True):
            backlog.settled(given, outcome, counts and outcome.state is not CallState.PENDING)
            backlogs[backlog.function_id] = backlog
        self._wake({given.call_id for _, given, _ in batch})
        for backlog in backlogs.values():
            backlog.advance()
            self._forget_if_idle(backlog)

    async def _sweep(self) -> None:
        while True:
            try:
                while await self.store.expire(time.time()) == SWEPT:
                    pass
                named = await self.store.named_files()
                await asyncio.to_thread(self.store.files.sweep, named)
            except (StoreError, OSError) as error:
                log.warning("results that were kept long enough could not be removed: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)


def _given(call: NewCall, position: int) -> list[PendingInput]:
    return [
        PendingInput(position + place, call.id, call.first + place, 0, 0, call.python, payload)
        for place, payload in enumerate(call.payloads)
    ]
