"""How a function's code is run: on the main thread, in threads, or on the loop.

    sync, one input at a time       on the main thread, since signal handlers and some libraries insist on it; the event loop is
                                    in a thread beside it
    sync with @concurrent           in threads
    async                           on the event loop, in a task for each request

Cancelling raises InputCancellation in sync code (by a signal on the main thread, which also ends a system call that blocks; in
a thread at its next line of Python) and cancels the task of async code.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import DeserializationError, InputCancellation, SerializationError
from zygo.guest.incoming import Incoming
from zygo.sdk import context, frames, large, payload, remote

if TYPE_CHECKING:
    from zygo.guest.job import Job


class Runner:
    """Runs the inputs of jobs with `function`, called `name` in texts. `generator`: it yields its results."""

    def __init__(self, function: Callable[..., Any], name: str, generator: bool) -> None:
        self.function = function
        self.name = name
        self.generator = generator

    def submit(self, job: Job) -> None:
        """Run `job`; its `finish` is called at the end."""
        raise NotImplementedError

    def interrupt(self, job: Job) -> None:
        """Make the user's code of a stopped job end. May be called again while it does not."""
        raise NotImplementedError

    def _arguments(self, job: Job, data: Any) -> Any:
        try:
            return payload.loads(data, f"The arguments of {self.name}", job.origin)
        finally:
            job.begin_code()
            if isinstance(data, Incoming):
                data.close()

    def _pickled(self, job: Job, value: Any, what: str) -> bytes:
        """In a thread: the last piece of the pickled value; those before it are sent."""
        parts = large.Parts(job.part, job.forget_parts)
        payload.dump(value, f"{what} of {self.name}", parts)
        return parts.tail

    def _settle_value(self, job: Job, value: Any) -> None:
        job.settle(frames.VALUE, self._pickled(job, value, "The result"))

    def _settle_error(self, job: Job, error: BaseException) -> None:
        if isinstance(error, DeserializationError):
            job.settle_failure(remote.said("deserialization", str(error)))
        elif isinstance(error, SerializationError):
            job.settle_failure(remote.said("serialization", str(error)))
        else:
            job.settle_exception(error)


class _Sync(Runner):
    def execute(self, job: Job) -> None:
        """Every input of `job`, in this thread."""
        try:
            while (given := job.next()) is not None:
                self._one(job, *given)
        except InputCancellation:
            pass  # it came when the code had just ended by itself
        finally:
            job.handle = None
            job.finish()

    def _one(self, job: Job, identifier: str, data: Any) -> None:
        try:
            args, kwargs = self._arguments(job, data)
        except DeserializationError as error:
            self._settle_error(job, error)
            return
        token = context.enter_call(job.call_id, identifier)
        try:
            value = self._interruptible(job, args, kwargs)
        except InputCancellation as error:
            if not job.stopped:
                job.settle_exception(error)
        except BaseException as error:
            self._settle_error(job, error) if isinstance(error, _Unsendable) else job.settle_exception(error)
        else:
            if not self.generator:
                try:
                    self._settle_value(job, value)
                except SerializationError as error:
                    self._settle_error(job, error)
        finally:
            context.leave_call(token)

    def _interruptible(self, job: Job, args: Any, kwargs: Any) -> Any:
        self._enter(job)
        try:
            value = self.function(*args, **kwargs)
            if self.generator:
                self._iterate(job, value)
        finally:
            self._leave(job)
        return value

    def _iterate(self, job: Job, items: Any) -> None:
        for item in items:
            try:
                data = self._pickled(job, item, "An item")
            except SerializationError as error:
                raise _Unsendable(str(error)) from None
            job.wait_for_room()
            if not job.item(data):
                items.close()
                return
        job.settle(frames.END, b"")

    def _enter(self, job: Job) -> None:
        raise NotImplementedError

    def _leave(self, job: Job) -> None:
        raise NotImplementedError


class _Unsendable(SerializationError):
    """An item of a generator that cannot be pickled: told from a SerializationError that the user's code raised."""


class Place:
    """The main thread, which gives itself over with `run`, and whoever has jobs for it: one at a time has its turn."""

    def __init__(self) -> None:
        self.running: Job | None = None
        self._turns: queue.SimpleQueue[tuple[Callable[[Any], None], Any] | None] = queue.SimpleQueue()
        self._ident = 0

    def run(self) -> None:
        """Run what comes until `end`. On the main thread."""
        self._ident = threading.get_ident()
        signal.signal(signal.SIGUSR1, self._interrupted)
        while (turn := self._turns.get()) is not None:
            turn[0](turn[1])

    def end(self) -> None:
        """Make `run` return once what runs has ended."""
        self._turns.put(None)

    def put(self, execute: Callable[[Any], None], job: Any) -> None:
        """Have `execute(job)` called on the main thread."""
        self._turns.put((execute, job))

    def interrupt(self, job: Any) -> None:
        """Raise InputCancellation in the main thread if `job` is what runs there."""
        if self.running is job:
            signal.pthread_kill(self._ident, signal.SIGUSR1)

    def _interrupted(self, number: int, frame: Any) -> None:
        # Only while the user's code runs, and only the job that was stopped: the signal may come a moment too late.
        job = self.running
        if job is not None and job.stopped:
            raise InputCancellation(f"This input was stopped: {job.stopped}.")


class MainThread(_Sync):
    """Runs one job at a time on the main thread; several of them may share it, as the methods of a class do."""

    def __init__(self, function: Callable[..., Any], name: str, generator: bool, place: Place) -> None:
        super().__init__(function, name, generator)
        self.place = place

    def submit(self, job: Job) -> None:
        self.place.put(self.execute, job)

    def interrupt(self, job: Job) -> None:
        self.place.interrupt(job)

    def _enter(self, job: Job) -> None:
        self.place.running = job
        if job.stopped:  # while its arguments were being read
            raise InputCancellation(f"This input was stopped: {job.stopped}.")

    def _leave(self, job: Job) -> None:
        self.place.running = None


class Threads(_Sync):
    """Runs up to `limit` jobs at once, each in a thread."""

    def __init__(self, function: Callable[..., Any], name: str, generator: bool, limit: int) -> None:
        super().__init__(function, name, generator)
        self._limit = limit
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, job: Job) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._limit, thread_name_prefix=self.name)
        self._pool.submit(self.execute, job)

    def interrupt(self, job: Job) -> None:
        with job.lock:
            if job.handle is not None:
                _raise_in(job.handle, InputCancellation)

    def _enter(self, job: Job) -> None:
        with job.lock:
            job.handle = threading.get_ident()
        if job.stopped:
            raise InputCancellation(f"This input was stopped: {job.stopped}.")

    def _leave(self, job: Job) -> None:
        with job.lock:
            # One that was asked for and not raised yet must not hit the next job of this thread.
            _raise_in(threading.get_ident(), None)
            job.handle = None


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    raised = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


class OnLoop(Runner):
    """Runs async functions and async generators on the event loop."""

    def __init__(self, function: Callable[..., Any], name: str, generator: bool) -> None:
        super().__init__(function, name, generator)
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, job: Job) -> None:
        task = asyncio.get_running_loop().create_task(self._execute(job))
        job.handle = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def interrupt(self, job: Job) -> None:
        if job.handle is not None:
            job.handle.cancel()

    async def _execute(self, job: Job) -> None:
        try:
            while (given := job.next()) is not None:
                await self._one(job, *given)
        except asyncio.CancelledError:
            pass  # between two inputs
        finally:
            job.handle = None
            job.finish()

    async def _one(self, job: Job, identifier: str, data: Any) -> None:
        try:
            args, kwargs = await self._apart(self._arguments, job, data, large=isinstance(data, Incoming))
        except DeserializationError as error:
            self._settle_error(job, error)
            return
        context.enter_call(job.call_id, identifier)
        try:
            made = self.function(*args, **kwargs)
            value = await (self._iterate(job, made) if self.generator else made)
        except asyncio.CancelledError as error:
            if not job.stopped:
                job.settle_exception(error)
        except BaseException as error:
            self._settle_error(job, error) if isinstance(error, _Unsendable) else job.settle_exception(error)
        else:
            if not self.generator:
                try:
                    job.settle(frames.VALUE, await self._pickled_async(job, value, "The result"))
                except SerializationError as error:
                    self._settle_error(job, error)

    async def _apart(self, function: Callable[..., Any], *args: Any, large: bool) -> Any:
        """`function(*args)`, in a thread when it handles something large and so has to wait for the other side."""
        if not large:
            return function(*args)
        return await asyncio.get_running_loop().run_in_executor(None, function, *args)

    async def _pickled_async(self, job: Job, value: Any, what: str) -> bytes:
        try:
            small = large.Parts(_refuse_part, _nothing)
            payload.dump(value, f"{what} of {self.name}", small)
            return small.tail
        except _TooLarge:
            return bytes(await self._apart(self._pickled, job, value, what, large=True))

    async def _iterate(self, job: Job, items: Any) -> None:
        async for item in items:
            try:
                data = await self._pickled_async(job, item, "An item")
            except SerializationError as error:
                raise _Unsendable(str(error)) from None
            await job.room()
            if not job.item(data):
                await items.aclose()
                return
        job.settle(frames.END, b"")


class _TooLarge(BaseException):
    """Not an Exception: pickle's own errors lead to a second try with cloudpickle, this one does not."""


def _refuse_part(data: bytes) -> None:
    raise _TooLarge


def _nothing() -> None:
    pass


def choose(function: Callable[..., Any], name: str, max_inputs: int, place: Place) -> Runner:
    """The runner for `function`, which takes `max_inputs` at once; `place` is the main thread, if it is to run there."""
    raw = inspect.unwrap(function)
    if inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw):
        return OnLoop(function, name, inspect.isasyncgenfunction(raw))
    generator = inspect.isgeneratorfunction(raw)
    if max_inputs > 1:
        return Threads(function, name, generator, max_inputs)
    return MainThread(function, name, generator, place)
