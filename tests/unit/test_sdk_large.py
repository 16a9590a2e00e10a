"""Large payloads: in a file on the way out, in parts on the way back, read while they come in."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from zygo.errors import DeserializationError
from zygo.guest.incoming import Incoming
from zygo.sdk import calls, frames, large, payload

SIZES = (0, 1, frames.INLINE_BYTES - 200, frames.INLINE_BYTES + 1, 5_000_000)


@pytest.mark.parametrize("size", SIZES)
def test_there_and_back(size: int) -> None:
    value = {"data": bytes(size), "more": [1, 2, 3]}
    made = payload.store(value, "It")
    assert isinstance(made, large.Stored) == (size > frames.INLINE_BYTES)
    assert payload.loads(made, "It", "") == value
    assert payload.loads(made, "It", "") == value, "it can be read again: an input may be repeated"


@pytest.mark.parametrize("size", SIZES)
def test_parts_are_put_together(size: int) -> None:
    sent: list[bytes] = []
    parts = large.Parts(sent.append, sent.clear)
    payload.dump([bytes(size), "x"], "It", parts)
    assert bool(sent) == (size > frames.INLINE_BYTES)
    whole = calls.Whole()
    for part in sent:
        assert len(part) <= large.CHUNK
        assert whole.takes(frames.PART, part)
    assert payload.loads(whole.payload(parts.tail), "It", "") == [bytes(size), "x"]


def test_a_second_try_forgets_the_parts_of_the_first() -> None:
    whole = calls.Whole()

    def send(data: bytes) -> None:
        assert whole.takes(frames.PART, data)

    def forget() -> None:
        assert whole.takes(frames.FORGET, b"")

    parts = large.Parts(send, forget)
    factor = 3
    payload.dump([bytes(3_000_000), lambda x: x * factor], "It", parts)
    assert payload.loads(whole.payload(parts.tail), "It", "")[1](2) == 6


@pytest.mark.parametrize("piece", [100_000, 65_536, 1_000_001])
def test_a_value_is_read_while_it_comes(piece: int) -> None:
    value = [bytes(3_000_000), {"a": "b"}, bytes(range(256)) * 100]
    data = pickle.dumps(value, payload.PROTOCOL)

    async def program() -> Any:
        loop = asyncio.get_running_loop()
        incoming = Incoming(loop)
        reading = loop.run_in_executor(None, payload.loads, incoming, "It", "")
        for at in range(0, len(data), piece):
            await incoming.room()
            incoming.feed(data[at : at + piece])
        incoming.end()
        return await reading

    assert asyncio.run(program()) == value


def test_an_end_that_comes_too_soon_and_a_reader_that_gives_up() -> None:
    async def program() -> None:
        loop = asyncio.get_running_loop()
        incoming = Incoming(loop)
        reading = loop.run_in_executor(None, payload.loads, incoming, "It", "")
        incoming.feed(pickle.dumps(bytes(1000), payload.PROTOCOL)[:500])
        incoming.end()
        with pytest.raises(DeserializationError):
            await reading
        incoming = Incoming(loop)
        incoming.feed(bytes(5_000_000))
        waiting = asyncio.ensure_future(incoming.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        incoming.close()
        await asyncio.wait_for(waiting, 5)
        incoming.feed(bytes(5_000_000))
        await asyncio.wait_for(incoming.room(), 5)

    asyncio.run(program())
