"""Inputs of several callers run as one list: collected on the event loop, run where the function's kind belongs.

A batch begins with the first input that comes while none is being collected, and is run once it is full or its time is up.
Batches of one container run one after the other; what comes meanwhile is the next one.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import DeserializationError, InputCancellation, InvalidError, SerializationError
from zygo.guest.runner import Place, Runner
from zygo.sdk import frames, remote

if TYPE_CHECKING:
    from zygo.guest.job import Job
    from zygo.model import BatchPolicy


class Batches(Runner):
    """Runs the inputs of jobs in lists. `place` is the main thread, for a function that is not async."""

    def __init__(self, function: Callable[..., Any], name: str, policy: BatchPolicy, place: Place) -> None:
        super().__init__(function, name, False)
        self._policy = policy
        self._is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        if not self._is_async:
            self.place = place
        self._signature = inspect.signature(function)
        self._collected: list[Job] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: _Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, job: Job) -> None:
        self._loop = asyncio.get_running_loop()
        self._collected.append(job)
        self._look()

    def interrupt(self, job: Job) -> None:
        batch = self._running
        if job in self._collected:
            self._collected.remove(job)
            job.finish()
        elif batch is not None and job in batch.jobs and batch.stopped:
            # While others of its batch want their results, the code goes on; nobody waits for this job's.
            self._task.cancel() if self._task is not None else self.place.interrupt(batch)

    def _look(self) -> None:
        """Begin a batch if there is one to begin."""
        if self._running is not None or not self._collected:
            return
        assert self._loop is not None
        if len(self._collected) >= self._policy.max_batch_size:
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._policy.wait, self._begin)

    def _begin(self) -> None:
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        size = self._policy.max_batch_size
        batch = self._running = _Batch(self._collected[:size])
        del self._collected[:size]
        if self._is_async:
            self._task = self._loop.create_task(self._run_async(batch))
        else:
            self.place.put(self._run, batch)

    def _ended(self) -> None:
        self._running = self._task = None
        self._look()

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _run(self, batch: _Batch) -> None:
        """On the main thread."""
        try:
            arguments = self._merge(batch)
            if arguments is not None:
                self.place.running = batch  # type: ignore[assignment]
                try:
                    values = self.function(**arguments)
                finally:
                    self.place.running = None
                self._share(batch, values)
        except InputCancellation as error:
            batch.fail(error)
        except BaseException as error:
            batch.fail(error)
        finally:
            batch.finish()
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._ended)

    async def _run_async(self, batch: _Batch) -> None:
        try:
            # In threads, since a large input is still coming in on this loop while it is read.
            arguments = await asyncio.to_thread(self._merge, batch)
            if arguments is not None:
                values = await self.function(**arguments)
                await asyncio.to_thread(self._share, batch, values)
        except BaseException as error:
            batch.fail(error)
        finally:
            batch.finish()
            self._ended()

    def _merge(self, batch: _Batch) -> dict[str, list[Any]] | None:
        """The lists for the parameters; None when no input is left. Inputs that do not fit fail by themselves."""
        bound: list[inspect.BoundArguments] = []
        for job in batch.jobs:
            given = job.next()
            if given is None:
                continue
            try:
                args, kwargs = self._arguments(job, given[1])
                bound.append(self._signature.bind(*args, **kwargs))
            except (DeserializationError, TypeError) as error:
                self._settle_error(job, error)
                continue
            batch.members.append(job)
        if not bound:
            return None
        return {name: [each.arguments[name] for each in bound] for name in self._signature.parameters}

    def _share(self, batch: _Batch, values: Any) -> None:
        count = len(batch.members)
        if not isinstance(values, list) or len(values) != count:
            said = f"{len(values)} items" if isinstance(values, list) else type(values).__name__
            raise InvalidError(
                f"{self.name} is @batched and got lists of {count}; it has to return a list of as many, and returned {said}."
            )
        for job, value in zip(batch.members, values):
            if isinstance(value, Exception):
                job.settle_exception(value)
                continue
            try:
                self._settle_value(job, value)
            except SerializationError as error:
                self._settle_error(job, error)


class _Batch:
    """The jobs of one batch; `members` are those whose inputs are in the lists. It looks like a job to who interrupts it."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.members: list[Job] = []

    @property
    def stopped(self) -> str:
        """Why, when all of them were stopped; "" otherwise."""
        return self.jobs[0].stopped if all(job.stopped or job.done for job in self.jobs) else ""

    def fail(self, error: BaseException) -> None:
        """Each of them failed with `error`; its traceback is printed once."""
        printed = False
        for job in self.members:
            if job.stopped:
                continue
            if not printed:
                printed = True
                job.settle_exception(error)
            else:
                job.settle(frames.FAILURE, remote.dump(remote.record(error, "")))

    def finish(self) -> None:
        for job in self.jobs:
            job.give_back()  # a request with several inputs has one of them in a batch; the others are sent again
            job.finish()
