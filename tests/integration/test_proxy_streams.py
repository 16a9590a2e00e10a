"""Streams both ways: WebSockets, server-sent events, large bodies with slow ends and bounded memory."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from integration.proxy_kit import HOST, get, last, rig, run, scripted, until, uvicorn_at

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from integration.proxy_kit import Receive, Scope, Send

pytestmark = pytest.mark.timeout(30)

WS = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + b"A" * 22 + b"==",
)
MiB = 2**20
IN_BETWEEN = 16 * MiB
"""What sockets and user-space buffers together may hold of a stream that nobody reads; far below the stream."""


async def talk(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes a WebSocket's messages; refuses /no."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"http"})
        return
    await receive()
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
            return
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


def test_a_websocket_talks_both_ways_and_is_not_cut_while_it_is_in_use() -> None:
    async def main() -> None:
        async with uvicorn_at(talk) as path, rig(path, timeout=1.5) as r:
            async with ws_connect(
                f"ws://{HOST}:{r.port}/",
                host="127.0.0.1",
                port=r.port,
                subprotocols=[Subprotocol("chat")],
                proxy=None,
            ) as ws:
                assert ws.subprotocol == "chat"
                await ws.send("hello")
                assert await ws.recv() == "hello"
                big = b"x" * 500_000
                await ws.send(big)
                assert await ws.recv() == big
                for _ in range(8):
                    await asyncio.sleep(0.25)
                    await ws.send("still here")
                    assert await ws.recv() == "still here"
                assert r.admission.in_flight == 1
                await ws.send("bye")
                with pytest.raises(ConnectionClosed) as closed:
                    await ws.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "bye")
            record = await r.record()
            assert (record.status, record.error) == (101, None)
            await until(lambda: r.admission.in_flight == 0, "released")

    run(main())


def test_a_client_that_drops_its_websocket_frees_its_place() -> None:
    async def main() -> None:
        async with uvicorn_at(talk) as path, rig(path) as r:
            async with await r.connect() as c:
                c.send(get(b"/", *WS))
                assert b"101" in await c.upto(b"\r\n\r\n")
                assert r.admission.in_flight == 1
            await until(lambda: r.admission.in_flight == 0, "released")
            assert (await r.record()).status == 101

    run(main())


def test_a_refused_websocket_is_an_ordinary_answer() -> None:
    async def main() -> None:
        async with uvicorn_at(talk) as path, rig(path) as r:
            with pytest.raises(InvalidStatus) as refused:
                await ws_connect(f"ws://{HOST}:{r.port}/no", host="127.0.0.1", port=r.port, proxy=None)
            assert refused.value.response.status_code == 403
            # What was sent ahead belongs to the next request, now that there is no tunnel.
            async with await r.connect() as c:
                c.send(get(b"/no", *WS) + get(b"/next"))
                assert (await c.answer())[0] == 403
                assert (await c.answer())[2] == b"http"

    run(main())


def test_other_protocols_are_tunnels_too_with_what_was_sent_early() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Upgrade: raw\r\n" in head
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nfirst")
            while data := await reader.read(65536):
                writer.write(data.upper())
                await writer.drain()

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/", b"Connection: Upgrade", b"Upgrade: raw") + b"early")
            assert b"101" in await c.upto(b"\r\n\r\n")
            assert await c.exactly(10) == b"firstEARLY"
            c.send(b"x" * MiB)
            assert await c.exactly(MiB) == b"X" * MiB

    run(main())


def test_a_tunnel_ends_with_silence_and_not_with_time() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            while (data := await reader.read(65536)) and data[:1] != b"\x88":
                writer.write(data)
                await writer.drain()
            assert data == b"\x88\x8f\0\0\0\0\x03\xe9nothing came."
            assert await reader.read() == b""
            ended.set()

        async with scripted(script) as path, rig(path, timeout=1.5) as r, await r.connect() as c:
            began = time.monotonic()
            c.send(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
            assert b"101" in await c.upto(b"\r\n\r\n")
            while time.monotonic() < began + 3:
                c.send(b"x")
                assert await c.exactly(1) == b"x"
                await asyncio.sleep(0.05)
            assert await c.rest() == b"\x88\x0f\x03\xe9nothing came.", "a close frame with 1001"
            async with asyncio.timeout(10):
                await ended.wait()
            assert "nothing was sent for 1.5 s" in str((await r.record()).error)

    run(main())


async def use(ws: ClientConnection) -> None:
    while True:
        await ws.send("in use")
        assert await ws.recv() == "in use"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("deflate", ["deflate", None])
def test_a_setting_ends_a_websocket_although_it_is_in_use(deflate: str | None) -> None:
    async def main() -> None:
        left: list[tuple[int, str]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": message["text"]})
            left.append((message["code"], message["reason"]))

        async with uvicorn_at(app) as path, rig(path, timeout=0.5, tunnels_end=True) as r:
            address = f"ws://{HOST}:{r.port}/"
            async with ws_connect(address, host="127.0.0.1", port=r.port, compression=deflate, proxy=None) as ws:
                with pytest.raises(ConnectionClosed) as closed:
                    await use(ws)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "time is over.")
            await until(lambda: left == [(1001, "time is over.")], "the application was told")
            assert (await r.record()).error == "the connection lasted 0.5 s, the function's timeout"

    run(main())


def test_events_are_flushed_at_once() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for n in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % n, "more_body": True})
            await go.wait()
            go.clear()
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            await c.upto(b"\r\n\r\n")
            for n in range(3):
                assert await c.upto(b"data: %d\n\n\r\n" % n)
                go.set()
            assert await c.upto(b"0\r\n\r\n")

    run(main())


@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
def test_a_slow_reader_slows_the_app_down_and_gets_every_byte(declared: bool) -> None:
    size, sent = 64 * MiB, 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        headers = [(b"content-length", b"%d" % size)] if declared else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while sent < size:
            await send({"type": "http.response.body", "body": bytes([sent // MiB]) * MiB, "more_body": True})
            sent += MiB
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path) as r:
            c = await r.connect()
            c.reader._limit = 1024  # type: ignore[attr-defined]
            async with c:
                c.send(last())
                connection = next(iter(r.gateway.connections)) if r.gateway.connections else None
                await until(lambda: any(g.write_paused for g in r.gateway.connections), "the client is full")
                connection = next(iter(r.gateway.connections))
                assert connection.current is not None
                assert connection.current.upstream is not None
                await until(lambda: bool(connection.current.upstream.read_paused), "paused")  # type: ignore[union-attr]
                assert connection.transport.get_write_buffer_size() < MiB
                assert sent < IN_BETWEEN
                raw = await c.rest()
                _head, _, body = raw.partition(b"\r\n\r\n")
                if declared:
                    assert len(body) == size
                    assert all(body[n * MiB] == body[(n + 1) * MiB - 1] == n for n in range(64))
                else:
                    assert body.endswith(b"0\r\n\r\n")
                    assert sum(body.count(bytes([n])) for n in (0x21, 0x22)) >= 2 * MiB

    run(main())
    assert sent == size


def test_a_slow_app_slows_the_client_down_and_gets_every_byte() -> None:
    size, got = 64 * MiB, 0
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        await go.wait()
        more = True
        while more:
            message = await receive()
            got += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/", b"Content-Length: %d" % size, method=b"POST"))
            sent = 0

            async def feed() -> None:
                nonlocal sent
                while sent < size:
                    c.send(b"x" * MiB)
                    sent += MiB
                    await c.writer.drain()

            feeding = asyncio.ensure_future(feed())
            await until(lambda: any(g._paused for g in r.gateway.connections), "reading stopped")
            assert sent < IN_BETWEEN
            go.set()
            assert (await c.answer())[2] == b"ok"
            await feeding
            c.send(get(b"/", b"Content-Length: 1", method=b"POST") + b"x")
            assert (await c.answer())[0] == 200

    run(main())
    assert got == size + 1


def test_a_tunnel_has_back_pressure_too() -> None:
    async def main() -> None:
        sent = 0
        go = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
            while sent < 64 * MiB:
                writer.write(b"x" * MiB)
                sent += MiB
                await writer.drain()
            await go.wait()

        async with scripted(script) as path, rig(path) as r:
            c = await r.connect()
            c.reader._limit = 1024  # type: ignore[attr-defined]
            async with c:
                c.send(get(b"/", b"Connection: Upgrade", b"Upgrade: raw"))
                await until(lambda: any(g.write_paused for g in r.gateway.connections), "the client is full")
                assert sent < IN_BETWEEN
                got = 0
                while got < 64 * MiB:
                    got += len(await c.reader.read(MiB))
                go.set()

    run(main())


def test_answer_and_body_may_flow_at_the_same_time() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": more})

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/", b"Content-Length: 6", method=b"POST"))
            assert b"200 OK" in await c.upto(b"\r\n\r\n")
            for part in (b"ab", b"cd"):
                c.send(part)
                assert await c.upto(part.upper() + b"\r\n")
            c.send(b"ef")
            assert (await c.rest()).endswith(b"EF\r\n0\r\n\r\n")

    run(main())
