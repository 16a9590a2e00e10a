"""`map` and its kin: many inputs of one function, sent as fast as is of use, each with its own result, error and repetitions.

The iterables are consumed in a thread, ahead of what was yielded by `MOST` at most; requests and answers are the event loop's.
A short function's inputs go several to a request. If a container dies with such a request, the inputs without an answer are
sent again one by one, so that only the one that killed it fails.
"""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from zygo import errors
from zygo.model import retry_delay
from zygo.sdk import background, calls, door, frames, operations, payload
from zygo.sdk.pace import MOST, Pace
from zygo.sdk.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from zygo.sdk.calls import Target
    from zygo.sdk.function import Function
    from zygo.sdk.large import Payload


BYTES_PER_TICKET = 2 * 2**20
"""A large input counts for as many as it has such pieces: what is pulled ahead of time is bounded in bytes, too."""


class _Input:
    """One input: its place, its pickled arguments, and how often it failed."""

    __slots__ = ("data", "failures", "index", "tickets")

    def __init__(self, index: int, data: Payload) -> None:
        self.index = index
        self.data = data
        self.failures = 0
        self.tickets = min(MOST // 4, len(data) // BYTES_PER_TICKET)
        """Inputs that are not pulled because this one is large."""


class _Feed:
    """The inputs, pulled from the user's iterables and pickled; in a thread, or on the loop when one of them is async."""

    def __init__(self, name: str, arguments: Any, kwargs: dict[str, Any], wake: Any) -> None:
        self.pending: deque[_Input] = deque()
        self.ended = False
        self.error: BaseException | None = None
        self._name = name
        self._arguments = arguments
        self._kwargs = kwargs
        self._wake = wake
        self._tickets = threading.Semaphore(MOST)
        self._async_tickets: asyncio.Semaphore | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._count = 0

    def start(self) -> None:
        if hasattr(self._arguments, "__aiter__"):
            self._async_tickets = asyncio.Semaphore(MOST)
            self._task = asyncio.get_running_loop().create_task(self._pull_async())
        else:
            threading.Thread(target=self._pull, name=f"{self._name} inputs", daemon=True).start()

    def yielded(self, count: int) -> None:
        """So many results left: as many more inputs may be pulled."""
        if self._async_tickets is None:
            self._tickets.release(count)
        else:
            for _ in range(count):
                self._async_tickets.release()

    def close(self) -> None:
        self._closed = True
        self._tickets.release(MOST)
        if self._task is not None:
            self._task.cancel()

    def _pull(self) -> None:
        try:
            for args in self._arguments:
                self._tickets.acquire()
                if self._closed:
                    return
                for _ in range(self._add(args)):
                    self._tickets.acquire()
                if self._closed:
                    return
        except BaseException as error:
            self.error = error
        finally:
            self._end()

    async def _pull_async(self) -> None:
        assert self._async_tickets is not None
        try:
            async for args in self._arguments:
                await self._async_tickets.acquire()
                for _ in range(self._add(args)):
                    await self._async_tickets.acquire()
        except Exception as error:
            self.error = error
        finally:
            self._end()

    def _add(self, args: tuple[Any, ...]) -> int:
        item = _Input(self._count, calls.arguments(self._name, args, self._kwargs))
        self._count += 1
        self.pending.append(item)
        self._wake()
        return item.tickets

    def _end(self) -> None:
        self.ended = True
        if not self._closed:
            self._wake()


class Mapping:
    """One map under way. `chunks` does the work; it belongs to one event loop."""

    def __init__(self, function: Function, asked: Asked) -> None:
        self._function = function
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self._feed = _Feed(function.name, asked.arguments, asked.kwargs, self._wake_from_anywhere)
        self._event = asyncio.Event()
        self._woken = False
        self._requests: set[asyncio.Task[None]] = set()
        self._alone: deque[_Input] = deque()
        self._delayed: set[asyncio.TimerHandle] = set()
        self._ready: dict[int, Any] = {}
        self._unordered: list[Any] = []
        self._next = 0
        self._unsettled = 0
        self._failed: BaseException | None = None
        self.settled = 0

    async def chunks(self) -> AsyncIterator[list[Any]]:
        """The outcomes, some at a time: pickled values and exceptions. Raises the first failure unless they are wanted."""
        target = await operations.find_called(self._function, "map", generator=False)
        pace = Pace(target.capacity, target.parallel, _descriptors(), self._loop.time(), alone=target.single_use)
        self._feed.start()
        try:
            while True:
                self._event.clear()
                self._dispatch(target, pace)
                ready = self._take()
                if ready:
                    yield ready
                    self._feed.yielded(len(ready))
                    continue
                if self._failed is not None:
                    raise self._failed
                if self._feed.error is not None:
                    raise self._feed.error
                if self._finished():
                    return
                await self._wait(pace)
        finally:
            self._close()

    def _finished(self) -> bool:
        return self._feed.ended and not (self._feed.pending or self._alone or self._requests or self._delayed)

    async def _wait(self, pace: Pace) -> None:
        if not (self._feed.pending or self._alone):
            await self._event.wait()
            return
        timer = self._loop.call_later(max(0.001, pace.look_again(self._loop.time())), self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()

    def _dispatch(self, target: Target, pace: Pace) -> None:
        pending, alone = self._feed.pending, self._alone
        while (pending or alone) and self._failed is None:
            free = pace.window(self._loop.time()) - len(self._requests)
            if free <= 0:
                return
            count = 1 if alone else pace.batch(len(pending), free)
            source = alone or pending
            inputs = [source.popleft()]
            while len(inputs) < count and source and not (inputs[-1].tickets or source[0].tickets):
                inputs.append(source.popleft())
            task = self._loop.create_task(self._send(target, pace, inputs))
            self._requests.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = self._failed or task.exception()
        self._event.set()

    async def _send(self, target: Target, pace: Pace, inputs: list[_Input]) -> None:
        """One request and the outcomes that come back."""
        open_ = dict(enumerate(inputs))
        own = await door.door()
        try:
            connection = await calls.request(own, target, [item.data for item in inputs])
            reader, whole = frames.Reader(), calls.Whole()
            try:
                while open_ and (data := await calls.read(connection, target)):
                    for kind, place, microseconds, made in reader.feed(data):
                        if whole.takes(kind, made):
                            continue
                        item = open_.pop(place)
                        if kind == frames.RETURNED:
                            self._alone.append(item)
                            continue
                        pace.answered(microseconds / 1e6, self._loop.time())
                        if kind == frames.VALUE:
                            self._settle(item, whole.payload(made))
                        else:
                            self._fail(target, item, calls.failure(made, target))
                    self._event.set()
            except asyncio.CancelledError:
                own.release(connection)
                raise
            own.settle(connection)
        except errors.ResourceExhaustedError:
            pace.refused(self._loop.time())
            self._alone.extend(open_.values())
            open_ = {}
        except errors.Error as error:
            if len(open_) == 1 and len(inputs) == 1:
                self._fail(target, open_.pop(0), error)
            else:
                # Who of them it was is not known: each goes alone now, and the culprit fails by itself.
                self._alone.extend(open_.values())
                open_ = {}
        for item in open_.values():
            self._fail(target, item, errors.InternalFailure(f"The container of {target.name} left an input out."))

    def _settle(self, item: _Input, outcome: Any) -> None:
        self.settled += 1
        if item.tickets:
            self._feed.yielded(item.tickets)
        if self._asked.ordered:
            self._ready[item.index] = outcome
        else:
            self._unordered.append(outcome)

    def _fail(self, target: Target, item: _Input, error: Exception) -> None:
        item.failures += 1
        delay = retry_delay(target.retries, item.failures) if calls.repeatable(error) else None
        if delay is not None:

            def again() -> None:
                self._delayed.discard(timer)
                self._alone.append(item)
                self._event.set()

            timer = self._loop.call_later(delay, again)
            self._delayed.add(timer)
        elif self._asked.return_exceptions:
            self._settle(
                item, calls.what_was_raised(error) if isinstance(error, (calls.Raised, errors.Error)) else error
            )
        else:
            self._failed = self._failed or error

    def _take(self) -> list[Any]:
        if not self._asked.ordered:
            taken, self._unordered = self._unordered, []
            return taken
        taken = []
        while self._next in self._ready:
            taken.append(self._ready.pop(self._next))
            self._next += 1
        return taken

    def _wake_from_anywhere(self) -> None:
        # The feeding thread makes thousands of inputs in the time of one turn of the loop.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = False
        self._event.set()

    def _close(self) -> None:
        self._feed.close()
        for timer in self._delayed:
            timer.cancel()
        for task in self._requests:
            task.cancel()


class Asked:
    """What a map was asked for: an iterable (or async iterable) of argument tuples, and how its results are wanted."""

    def __init__(self, arguments: Any, kwargs: dict[str, Any], ordered: bool, return_exceptions: bool) -> None:
        self.arguments = arguments
        self.kwargs = kwargs
        self.ordered = ordered
        self.return_exceptions = return_exceptions
        self.total = getattr(arguments, "total", None)


class _Zip:
    """The tuples of several iterables; their number when it is known."""

    def __init__(self, iterables: tuple[Any, ...]) -> None:
        self._iterables = iterables
        sizes = [len(i) for i in iterables if hasattr(i, "__len__")]
        self.total = min(sizes) if sizes else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self._iterables)


class _AsyncZip:
    def __init__(self, iterables: tuple[Any, ...]) -> None:
        self._iterables = iterables

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        sources = [i.__aiter__() if hasattr(i, "__aiter__") else _as_async(i) for i in self._iterables]
        while True:
            try:
                yield tuple([await source.__anext__() for source in sources])
            except StopAsyncIteration:
                return


async def _as_async(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class _Tuples:
    """The argument tuples of a starmap."""

    def __init__(self, inputs: Any) -> None:
        self._inputs = inputs
        self.total = len(inputs) if hasattr(inputs, "__len__") else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (tuple(args) for args in self._inputs)


class _AsyncTuples:
    def __init__(self, inputs: Any) -> None:
        self._inputs = inputs

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        async for args in self._inputs:
            yield tuple(args)


def _map(
    *input_iterators: Any,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    wrap_returned_exceptions: bool = True,
) -> Asked:
    if not input_iterators:
        raise errors.InvalidError("map() needs at least one iterable of arguments, such as f.map(range(10)).")
    is_async = any(hasattr(i, "__aiter__") for i in input_iterators)
    arguments = _AsyncZip(input_iterators) if is_async else _Zip(input_iterators)
    return Asked(arguments, kwargs or {}, order_outputs, return_exceptions)


def _starmap(
    input_iterator: Any,
    *,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    wrap_returned_exceptions: bool = True,
) -> Asked:
    arguments = _AsyncTuples(input_iterator) if hasattr(input_iterator, "__aiter__") else _Tuples(input_iterator)
    return Asked(arguments, kwargs or {}, order_outputs, return_exceptions)


def _for_each(*input_iterators: Any, kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False) -> Asked:
    return _map(*input_iterators, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions)


class _MapMethod:
    """`map` or `starmap`: yields results."""

    def __init__(self, name: str, read: Any) -> None:
        self.name, self.read = name, read

    def blocking(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        function.check_call(self.name)
        return self._results(function, self.read(*args, **kwargs))

    def _results(self, function: Function, asked: Asked) -> Iterator[Any]:
        async def begin() -> tuple[Mapping, AsyncIterator[list[Any]]]:
            mapping = Mapping(function, asked)
            return mapping, mapping.chunks()

        what = f"{function.name}.{self.name}()"
        mapping, chunks = background.run(begin(), what)
        try:
            with Progress(function.name, asked.total) as progress:
                for chunk in background.iterate(chunks, what):
                    progress.show(mapping.settled)
                    for outcome in chunk:
                        yield _value(function, outcome)
            return
        except (calls.Raised, errors.Error) as raised:
            error = calls.what_was_raised(raised)
        raise error

    async def asynchronous(
        self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        function.check_call(self.name)
        chunks = Mapping(function, self.read(*args, **kwargs)).chunks()
        try:
            async for chunk in chunks:
                for outcome in chunk:
                    yield _value(function, outcome)
            return
        except (calls.Raised, errors.Error) as raised:
            error = calls.what_was_raised(raised)
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
        raise error


class _ForEach(_MapMethod):
    """`for_each`: returns once all is done."""

    def blocking(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # type: ignore[override]
        for _ in super().blocking(function, args, kwargs):
            pass

    async def asynchronous(  # type: ignore[override]
        self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        async for _ in super().asynchronous(function, args, kwargs):
            pass


def _value(function: Function, outcome: Any) -> Any:
    if isinstance(outcome, BaseException):
        return outcome
    return payload.loads(outcome, f"The result of {function.name}", "")


def _descriptors() -> int:
    """Connections that this process may have open: half of its descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else max(8, soft // 2)


OPERATIONS = {
    "map": _MapMethod("map", _map),
    "starmap": _MapMethod("starmap", _starmap),
    "for_each": _ForEach("for_each", _for_each),
}
