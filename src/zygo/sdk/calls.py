"""One call of a function: find it, send its input, repeat as it says, and give the result or the exception.

Everything here is a coroutine or an async generator; `function` offers them in both forms.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from zygo import errors
from zygo.model import RetryPolicy, retry_delay
from zygo.sdk import door, frames, large, payload, remote, where

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from zygo.sdk.door import Connection
    from zygo.sdk.large import Payload

SERVER = "zygo"
"""The host that stands for the server itself, where functions are looked up."""


@dataclass(frozen=True)
class Target:
    """A function that the server knows: how to call it, and what its caller must know of it."""

    id: str
    app: str
    name: str
    web_url: str | None
    generator: bool
    retries: RetryPolicy | None
    capacity: int
    """Inputs that can be at work at once."""
    parallel: int
    """Those of them in one container."""
    single_use: bool
    """Whether a container takes one input in its life."""


async def find(address: str, name: str, variant: dict[str, Any] | None = None) -> Target:
    """The function `name` of the app that is served or deployed at `address`, or a variant of it (see `variants`).

    An address is an app's id or name; a name with `environment/` in front is one in that environment, and else one in the
    environment of this process.

    Raises NotFoundError, ConnectionError, InvalidError for a variant that cannot be.
    """
    environment, _, app = address.rpartition("/")
    query = {"app": app, "name": name, "environment": environment or where.environment()}
    if variant:
        return target(await ask("POST", "/v1/functions", {**query, "variant": variant}))
    return target(await ask("GET", f"/v1/functions?{urlencode(query)}"))


def target(said: dict[str, Any]) -> Target:
    """What the server says of a function."""
    retries = said.get("retries")
    return Target(
        id=str(said["id"]),
        app=str(said["app"]),
        name=str(said["name"]),
        web_url=said.get("web_url"),
        generator=bool(said.get("generator")),
        retries=RetryPolicy(**retries) if retries else None,
        capacity=int(said.get("capacity") or 1),
        parallel=int(said.get("parallel") or 1),
        single_use=bool(said.get("single_use")),
    )


async def ask(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One small request to the server itself, in JSON."""
    import json

    data = b"" if body is None else json.dumps(body).encode()
    own = await door.door()
    connection = await own.request(method, SERVER, path, data, b"Content-Type: application/json\r\n")
    try:
        answer = json.loads(await door.read_all(connection) or b"{}")
    finally:
        own.release(connection)
    return answer if isinstance(answer, dict) else {}


def new_call_id() -> str:
    """An id that no other call has."""
    return f"fc-{secrets.token_hex(11)}"


def arguments(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
    """The pickled input of a call. Raises SerializationError."""
    return payload.store((args, kwargs), f"The arguments of {name}")


async def call(function: Target, data: Payload) -> Payload:
    """Call it with a pickled input: the frame of its value and where it came from. Raises what it raised."""
    failures = 0
    while True:
        try:
            return await attempt(function, data)
        except _REPEATED as error:
            failures += 1
            delay = retry_delay(function.retries, failures)
            if delay is None or not repeatable(error):
                raise
            await asyncio.sleep(delay)


_REPEATED = (Exception,)


def repeatable(error: BaseException) -> bool:
    """Whether another attempt may end differently: what the code raised, its time was up, its container died."""
    if isinstance(error, Raised):
        error = error.error
        return not isinstance(error, (errors.SerializationError, errors.DeserializationError, errors.InputCancellation))
    return isinstance(error, (errors.FunctionTimeoutError, errors.RemoteError))


class Raised(Exception):
    """What the function raised, on its way to the caller through code of ours."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def what_was_raised(error: Raised | errors.Error) -> BaseException:
    """What the caller gets: the function's exception with its remote traceback, or one of ours without the steps in here."""
    return error.error if isinstance(error, Raised) else error.with_traceback(None)


async def attempt(function: Target, data: Payload) -> Payload:
    """One attempt; the pickled value. Raises Raised, FunctionTimeoutError, RemoteError, ResourceExhaustedError..."""
    own = await door.door()
    connection = await request(own, function, [data])
    reader, whole = frames.Reader(), Whole()
    try:
        while chunk := await read(connection, function):
            for kind, _, _, body in reader.feed(chunk):
                if whole.takes(kind, body):
                    continue
                own.settle(connection)
                if kind == frames.VALUE:
                    return whole.payload(body)
                raise failure(body, function)
        raise errors.InternalFailure(f"The container of {function.name} answered with nothing.")
    except asyncio.CancelledError:
        own.release(connection)
        raise


async def generate(function: Target, data: Payload) -> AsyncIterator[Payload]:
    """The pickled items of a generator, as they come. Leaving early ends the generator in its container."""
    own = await door.door()
    connection = await request(own, function, [data])
    reader, whole, settled = frames.Reader(), Whole(), False
    try:
        while chunk := await read(connection, function):
            for kind, _, _, body in reader.feed(chunk):
                if whole.takes(kind, body):
                    continue
                if kind == frames.VALUE:
                    yield whole.payload(body)
                    continue
                settled = True
                own.settle(connection)
                if kind == frames.END:
                    return
                raise failure(body, function)
    finally:
        if not settled:
            own.release(connection)
    raise errors.InternalFailure(f"The generator {function.name} ended without saying so.")


class Whole:
    """Puts together the payload of an input that comes in parts."""

    def __init__(self) -> None:
        self._spool: large.Spool | None = None

    def takes(self, kind: bytes, body: bytes) -> bool:
        """Whether this frame was only a part."""
        if kind == frames.PART:
            if self._spool is None:
                self._spool = large.Spool()
            self._spool.write(body)
        elif kind == frames.FORGET:
            self._spool = None
        else:
            return False
        return True

    def payload(self, tail: bytes) -> Payload:
        """The whole, with what came in the value's own frame."""
        spool, self._spool = self._spool, None
        if spool is None:
            return tail
        spool.write(tail)
        return spool.payload()


def failure(body: bytes, function: Target) -> Exception:
    """The exception of a failure's frame."""
    error = remote.revive(body, function.name)
    return error if isinstance(error, errors.FunctionTimeoutError) else Raised(error)


async def request(own: door.Door, function: Target, inputs: Sequence[Payload]) -> Connection:
    """Send inputs, one alone when it is large; the connection on which the answer comes, to be released.

    Raises what `refused` says.
    """
    tail = inputs[0] if isinstance(inputs[0], large.Stored) else None
    if tail is not None:
        body = frames.HEAD.pack(frames.INPUT, 0, 0, len(tail))
    else:
        body = b"".join(
            frames.frame(frames.INPUT, place, data) for place, data in enumerate(inputs) if isinstance(data, bytes)
        )
    try:
        return await own.request("POST", function.id, "/", body, door.call_headers(new_call_id()), tail)
    except (door.Refused, door.Lost) as error:
        raise refused(error, function) from None


async def read(connection: Connection, function: Target) -> bytes:
    """More of the answer; b"" at its end. Raises ContainerError."""
    try:
        return await connection.read()
    except door.Lost as error:
        raise refused(error, function) from None


def refused(error: door.Refused | door.Lost, function: Target) -> errors.Error:
    """What it means for the caller that the server, and not the function, answered; or that nobody did."""
    name = f"{function.app}.{function.name}"
    if isinstance(error, door.Lost):
        return errors.ContainerError(f"{name}: the container died, or the server ended, during the call.")
    text, details = str(error), error.details
    if error.status == 503:
        return errors.ResourceExhaustedError(f"{name}: {text}")
    if error.status == 404:
        return errors.NotFoundError(f"There is no function {function.name!r} in the app {function.app!r} any more.")
    if error.status == 504:
        return errors.FunctionTimeoutError(f"{name}: {text}")
    if error.status == 413:
        return errors.RequestSizeError(f"{name}: {text}")
    reason = f" {details.strip()}" if details else ""
    return errors.ContainerError(f"{name}: {text}.{reason}", details)
