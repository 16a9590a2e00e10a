"""Spawned calls, the client's side: have them kept, wait for results, cancel.

Each request may be repeated, since a call's id is chosen here: a server that was restarted in the middle costs a moment. Calls
that are spawned at the same time, by many tasks, go together: while one request is under way the next ones gather.
"""

from __future__ import annotations

import asyncio
import json
import platform
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from zygo import errors
from zygo.sdk import background, calls, door, frames, mapping, operations, payload, remote
from zygo.sdk.function_call import FunctionCall
from zygo.sdk.operations import Operation, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zygo.sdk.function import Function
    from zygo.sdk.function_call import Several

MAX_REQUEST = 250 * 2**20
"""Bytes of inputs in one request, which the server holds whole; it refuses a little more than that."""

GATHERED_BYTES = 4 * 2**20
GATHERED_CALLS = 500
"""What goes into one request of calls that were spawned at the same time."""

CHUNK = 1000
"""Inputs of a spawn_map in one request, and results that are asked for at once."""

WAIT_SECONDS = 25.0
"""How long one request waits for a result; then it is asked again."""

RECONNECT_SECONDS = 30.0
"""How long a server that went away in the middle is waited for: it may be restarted."""

RECONNECT_PAUSE = 0.1

LIVED_SECONDS = 0.5
"""A request that was under way for so long had a server, which went away since."""


# -- requests ---------------------------------------------------------------------------------------------------------


_reached: set[str] = set()
"""Sockets on which a server has answered this process: when it is away, it will come back."""


async def _ask(method: str, path: str, body: bytes) -> bytes:
    """One request to the server itself, repeated when it goes away in the middle. Raises ConnectionError: at once when this
    process has never reached a server, since there may be none."""
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    own = await door.door()
    while True:
        began = loop.time()
        try:
            connection = await own.request(method, calls.SERVER, path, body)
            _reached.add(own.path)
            try:
                return await door.read_all(connection)
            finally:
                own.release(connection)
        except errors.ConnectionError as error:
            now = loop.time()
            # A request may outlive several servers: what counts is for how long none is there.
            if deadline is None or (isinstance(error, door.Lost) and now - began > LIVED_SECONDS):
                deadline = now + RECONNECT_SECONDS
            if now >= deadline or not (own.path in _reached or isinstance(error, door.Lost)):
                raise
            await asyncio.sleep(RECONNECT_PAUSE)


class _Outbox:
    """The calls that are spawned on one event loop: one request at a time, with all that came meanwhile."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def put(self, body: bytes) -> None:
        """Send one call's frames; returns once they are on the server's disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((body, future))
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        await future

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                if not batch:
                    continue
                try:
                    said = json.loads(await _ask("POST", "/v1/calls", b"".join(body for body, _ in batch)))["calls"]
                    outcomes = [errors.from_json(one["error"]) if "error" in one else None for one in said]
                except Exception as error:
                    outcomes = [error] * len(batch)  # type: ignore[list-item]
                for (_, future), outcome in zip(batch, outcomes):
                    if future.done():
                        continue
                    if outcome is None:
                        future.set_result(None)
                    else:
                        future.set_exception(outcome)
        finally:
            self._sender = None

    def _take(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        batch: list[tuple[bytes, asyncio.Future[None]]] = []
        size = 0
        while self._waiting and len(batch) < GATHERED_CALLS:
            body, future = self._waiting[0]
            if batch and size + len(body) > GATHERED_BYTES:
                break
            self._waiting.popleft()
            if not future.cancelled():
                batch.append((body, future))
                size += len(body)
        return batch


_outboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Outbox] = weakref.WeakKeyDictionary()


async def _spawn_inputs(function: Function, method: str, call_id: str, first: int, inputs: list[bytes]) -> None:
    target = await operations.find_called(function, method, generator=False)
    head = {"id": call_id, "function": target.id, "python": platform.python_version(), "first": first}
    parts = [frames.frame(frames.CALL, 0, json.dumps(head).encode())]
    parts += [frames.frame(frames.INPUT, first + place, data) for place, data in enumerate(inputs)]
    loop = asyncio.get_running_loop()
    outbox = _outboxes.get(loop)
    if outbox is None:
        outbox = _outboxes[loop] = _Outbox()
    try:
        await outbox.put(b"".join(parts))
    except errors.NotFoundError:
        function.known = None  # another app has the name by now, or none
        raise


async def _results(wanted: list[tuple[str, int]], seconds: float) -> dict[int, tuple[bytes, bytes]]:
    """The results that are there, by place in `wanted`: at least one, unless there is none within so many seconds."""
    body = json.dumps({"wanted": wanted, "seconds": seconds}).encode()
    answer = await _ask("POST", "/v1/results", body)
    return {place: (kind, data) for kind, place, _, data in frames.Reader().feed(answer)}


def _checked(name: str, got: tuple[bytes, bytes]) -> bytes:
    """The pickled value. Raises what stands in its place."""
    kind, data = got
    if kind == frames.VALUE:
        return data
    if kind == frames.SAID:
        raise errors.from_json(json.loads(data))
    raise calls.Raised(remote.revive(data, name))


async def _all(wanted: list[tuple[str, int]], names: list[str]) -> AsyncIterator[bytes]:
    """The values in order, as they come."""
    at = 0
    found: dict[int, tuple[bytes, bytes]] = {}
    while at < len(wanted):
        asked = [place for place in range(at, min(at + CHUNK, len(wanted))) if place not in found]
        got = await _results([wanted[place] for place in asked], WAIT_SECONDS)
        found.update({asked[place]: one for place, one in got.items()})
        while at in found:
            yield _checked(names[at], found.pop(at))
            at += 1


# -- the methods ------------------------------------------------------------------------------------------------------


def _arguments(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    data = calls.arguments(function.name, args, kwargs)
    if len(data) > MAX_REQUEST:
        raise errors.RequestSizeError(
            f"The arguments of {function.name} have {len(data) >> 20} MiB, and at most {MAX_REQUEST >> 20} MiB can be kept for "
            f"a spawned call. Write them to a file or a bucket and pass its name."
        )
    return data if isinstance(data, bytes) else b"".join(data.chunks())


def _spawn_input(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    function.check_call("spawn")
    return _arguments(function, args, kwargs)


async def _spawn(function: Function, data: bytes) -> str:
    call_id = calls.new_call_id()
    await _spawn_inputs(function, "spawn", call_id, 0, [data])
    return call_id


def _made(function: Function, call_id: str) -> FunctionCall:
    return FunctionCall(call_id, function.name)


class _SpawnMap:
    """`spawn_map`: a call with many inputs."""

    def blocking(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FunctionCall:
        """For blocking code."""
        function.check_call("spawn_map")
        asked = mapping._map(*args, **kwargs)
        if hasattr(asked.arguments, "__aiter__"):
            raise errors.InvalidError(f"{function.name}.spawn_map() got an async iterable: use spawn_map.aio().")
        call_id, count = calls.new_call_id(), 0
        for inputs in self._chunks(function, asked):
            try:
                background.run(
                    _spawn_inputs(function, "spawn_map", call_id, count, inputs), f"{function.name}.spawn_map()"
                )
            except errors.Error as raised:
                error = raised.with_traceback(None)
            else:
                count += len(inputs)
                continue
            raise error
        return self._made(function, call_id, count)

    async def asynchronous(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FunctionCall:
        """For async code."""
        function.check_call("spawn_map")
        asked = mapping._map(*args, **kwargs)
        call_id, count = calls.new_call_id(), 0
        if hasattr(asked.arguments, "__aiter__"):
            asked.arguments = [arguments async for arguments in asked.arguments]
        for inputs in self._chunks(function, asked):
            await _spawn_inputs(function, "spawn_map", call_id, count, inputs)
            count += len(inputs)
        return self._made(function, call_id, count)

    def _chunks(self, function: Function, asked: mapping.Asked) -> Iterator[list[bytes]]:
        pickled = (_arguments(function, args, asked.kwargs) for args in asked.arguments)
        chunk: list[bytes] = []
        size = 0
        for data in pickled:
            if chunk and (len(chunk) == CHUNK or size + len(data) > GATHERED_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(data)
            size += len(data)
        if chunk:
            yield chunk

    def _made(self, function: Function, call_id: str, count: int) -> FunctionCall:
        if not count:
            raise errors.InvalidError(f"{function.name}.spawn_map() got no inputs: the iterable is empty.")
        return FunctionCall(call_id, function.name)


def _how_to_get(call: FunctionCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float | None, int]:
    def read(timeout: float | None = None, *, index: int = 0) -> tuple[float | None, int]:
        return timeout, index

    return read(*args, **kwargs)


async def _get(call: FunctionCall, how: tuple[float | None, int]) -> bytes:
    timeout, index = how
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while True:
        left = WAIT_SECONDS if deadline is None else deadline - loop.time()
        got = await _results([(call.object_id, index)], max(0.0, min(left, WAIT_SECONDS)))
        if got:
            return _checked(call.name, got[0])
        if deadline is not None and loop.time() >= deadline:
            raise errors.TimeoutError(f"The call {call.object_id} has no result yet (waited for {timeout:g} s).")


def _loaded(call: FunctionCall | Several, data: bytes) -> Any:
    return payload.loads(data, f"The result of {call.name}", "")


def _range(call: FunctionCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int | None]:
    def read(start: int = 0, end: int | None = None) -> tuple[int, int | None]:
        return start, end

    return read(*args, **kwargs)


async def _iter(call: FunctionCall, numbers: tuple[int, int | None]) -> AsyncIterator[bytes]:
    start, end = numbers
    count = await _num_inputs(call, None)
    wanted = [(call.object_id, number) for number in range(start, count if end is None else min(end, count))]
    async for data in _all(wanted, [call.name] * len(wanted)):
        yield data


def _nothing(call: FunctionCall | Several, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if args or kwargs:
        raise errors.InvalidError("This method takes no arguments.")


async def _num_inputs(call: FunctionCall, prepared: None) -> int:
    return int(json.loads(await _ask("GET", f"/v1/calls/{call.object_id}", b""))["inputs"])


def _how_to_cancel(call: FunctionCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    def read(terminate_containers: bool = False) -> bool:
        return terminate_containers

    return read(*args, **kwargs)


async def _cancel(call: FunctionCall, terminate_containers: bool) -> None:
    body = json.dumps({"terminate_containers": terminate_containers}).encode()
    await _ask("POST", f"/v1/calls/{call.object_id}/cancel", body)


async def _gather(several: Several, prepared: None) -> list[bytes]:
    wanted = [(call.object_id, 0) for call in several.calls]
    return [data async for data in _all(wanted, [call.name for call in several.calls])]


OPERATIONS: dict[str, Any] = {
    "spawn": Operation("spawn", _spawn_input, _spawn, _made),
    "spawn_map": _SpawnMap(),
    "get": Operation("get", _how_to_get, _get, _loaded),  # type: ignore[arg-type]
    "iter": Stream("iter", _range, _iter, _loaded),  # type: ignore[arg-type]
    "num_inputs": Operation("num_inputs", _nothing, _num_inputs, lambda call, count: count),  # type: ignore[arg-type]
    "cancel": Operation("cancel", _how_to_cancel, _cancel, lambda call, made: None),  # type: ignore[arg-type]
    "gather": Operation(
        "gather",
        _nothing,  # type: ignore[arg-type]
        _gather,  # type: ignore[arg-type]
        lambda several, found: [_loaded(several, data) for data in found],  # type: ignore[arg-type]
    ),
}
