"""One attempt at an input: to the container that has a slot for it, as the request that a live call is."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from zygo.gateway.direct import Connections, DiedError, NotReachedError
from zygo.gateway.routes import RequestRecord
from zygo.sdk import frames

if TYPE_CHECKING:
    from zygo.gateway.admission import Slot
    from zygo.gateway.direct import Connection
    from zygo.gateway.routes import Endpoint
    from zygo.store.calls import PendingInput

SETTLE_SECONDS = 15.0
"""How long code that was cancelled may keep its slot; its container ends it after 5 s, and is ended itself after this."""

_settling: set[asyncio.Task[None]] = set()


class NotBegunError(Exception):
    """The container did not begin it, for a reason that is not the input's."""


@dataclass(frozen=True)
class Answer:
    """A frame with the input's result: its kind and payload, and how long the function took."""

    kind: bytes
    data: bytes
    seconds: float


async def attempt(connections: Connections, endpoint: Endpoint, slot: Slot, given: PendingInput, data: bytes) -> Answer:
    """Send an input to the container of `slot`, which is released in any case; the result.

    Raises NotBegunError, DiedError, TooLargeError; TimeoutError when the container had to be ended. Cancelling it stops the
    code in the container; the slot is released once that has ended.
    """
    admission, backend = endpoint.admission, slot.backend
    began = monotonic()
    connection: Connection | None = None
    status, error, left = 0, None, False
    try:
        connection = await connections.open(backend)
        connection.send(_head(given), frames.frame(frames.INPUT, given.number, data))
        async with asyncio.timeout(endpoint.timeout):
            status, body = await asyncio.shield(connection.answer)
        return _read(status, body)
    except NotReachedError as reason:
        status, error = 502, str(reason)
        admission.suspect(backend)
        raise NotBegunError(str(reason)) from None
    except DiedError as reason:
        status, error = 502, str(reason)
        admission.suspect(backend)
        raise
    except TimeoutError:
        status, error = 504, "timeout"
        if connection is not None:
            connection.abort()
        endpoint.on_timeout(backend)
        raise
    except asyncio.CancelledError:
        status, error, left = 499, "cancelled", connection is not None
        raise
    finally:
        if left and connection is not None:
            _settle(connection, endpoint, slot)
        else:
            admission.release(slot)
        endpoint.log(_record(endpoint, slot, began, status, error))


def _head(given: PendingInput) -> bytes:
    return (
        b"POST / HTTP/1.1\r\nHost: zygo\r\nContent-Type: application/x-zygo-frames\r\nZygo-Call: %b\r\nZygo-Python: %b\r\n"
        % (given.call_id.encode("latin-1", "replace"), given.python.encode("latin-1", "replace"))
    )


def _read(status: int, body: bytes) -> Answer:
    if status != 200:
        raise DiedError(f"its container answered with status {status}")
    parts: list[bytes] = []
    for kind, _, microseconds, data in frames.Reader().feed(body):
        if kind == frames.PART:
            parts.append(data)
        elif kind == frames.FORGET:
            parts.clear()
        elif kind == frames.RETURNED:
            raise NotBegunError("the container gave it back")
        elif kind == frames.VALUE or kind in frames.FAILURES:
            return Answer(kind, b"".join([*parts, data]), microseconds / 1e6)
    raise DiedError("its container answered with nothing")


def _settle(connection: Connection, endpoint: Endpoint, slot: Slot) -> None:
    """Release the slot once the code that was stopped has ended; end its container when it does not."""

    async def wait() -> None:
        connection.leave()
        done, _ = await asyncio.wait([connection.closed], timeout=SETTLE_SECONDS)
        if not done:
            connection.abort()
            endpoint.on_timeout(slot.backend)
        endpoint.admission.release(slot)

    task = asyncio.get_running_loop().create_task(wait(), name=f"stop an input in {slot.backend.id}")
    _settling.add(task)
    task.add_done_callback(_settling.discard)


def _record(endpoint: Endpoint, slot: Slot, began: float, status: int, error: str | None) -> RequestRecord:
    took = monotonic() - began
    return RequestRecord(
        function=endpoint.function,
        app=endpoint.app,
        method="CALL",
        path=endpoint.function,
        status=status,
        start="warm",
        queue=0.0,
        fork=0.0,
        first=took,
        total=took,
        request_id=secrets.token_hex(8),
        container=slot.backend.id,
        client="",
        error=error,
    )
