"""What a request meets when something is wrong: containers that die, hang or talk nonsense, clients that leave."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.proxy_kit import (
    HOST,
    get,
    last,
    parse_head,
    read_request,
    replies,
    rig,
    run,
    scripted,
    until,
    uvicorn_at,
)
from zygo.errors import ContainerError
from zygo.gateway.container import Backend
from zygo.gateway.proxy import Limits

if TYPE_CHECKING:
    from integration.proxy_kit import Receive, Scope, Send

pytestmark = pytest.mark.timeout(20)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A container that is killed while it serves."""
    await read_request(reader)


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_death_in_the_middle_of_a_request_is_one_502() -> None:
    async def main() -> None:
        async with scripted(dies) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            status, headers, body = await c.answer()
            assert status == 502
            assert b"the container died" in body
            assert headers[b"x-request-id"] in body
            assert b"c-0" not in body
            assert [b.id for b in r.died] == ["c-0"]
            record = await r.record()
            assert record.status == 502
            assert record.error is not None
            assert "c-0 died" in record.error

    run(main())


def test_under_serve_the_502_says_why_even_if_that_is_known_a_moment_later() -> None:
    async def main() -> None:
        reasons: list[str | None] = [None, None, "killed: out of memory"]
        async with (
            scripted(dies) as path,
            rig(path, debug=True, explain=lambda _: reasons.pop(0) if len(reasons) > 1 else reasons[0]) as r,
            await r.connect() as c,
        ):
            c.send(get(b"/", b"Accept: application/json"))
            status, headers, body = await c.answer()
            assert status == 502
            assert b"server-timing" in headers
            assert b"request_id" in body
            c.send(get())
            assert b"killed: out of memory" in (await c.answer())[2]

    run(main())


def test_death_after_the_head_cuts_the_connection() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            await writer.drain()

        async with scripted(script) as path, rig(path) as r:
            raw = await r.ask(get())
            assert not raw.endswith(b"0\r\n\r\n")
            assert b"502" not in raw
            record = await r.record()
            assert record.status == 200
            assert record.error is not None

    run(main())


def test_a_container_that_nobody_listens_for_any_more_is_passed_over() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            gone = str(Path(directory) / "gone.sock")
            refusing = str(Path(directory) / "refusing.sock")
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(refusing)
            async with uvicorn_at(count_body) as alive, rig(gone, refusing, alive) as r, await r.connect() as c:
                # A body does not matter: nothing of it was sent.
                c.send(get(b"/", b"Content-Length: 5", method=b"POST") + b"hello")
                assert (await c.answer())[2] == b"5"
                assert {b.id for b in r.died} == {"c-0", "c-1"}
                assert len(r.records) == 1
            sock.close()

    run(main())


async def count_body(scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def test_when_no_container_can_be_reached_the_request_waits_for_one() -> None:
    async def main() -> None:
        async with uvicorn_at(count_body) as alive, rig("/nonexistent/x.sock") as r, await r.connect() as c:
            c.send(get())
            await until(lambda: r.admission.waiting == 1, "waiting")
            r.admission.set_backends([Backend("c-new", alive)])
            assert (await c.answer())[0] == 200
            assert (await r.record()).container == "c-new"

    run(main())


def test_moving_from_container_to_container_has_an_end() -> None:
    async def main() -> None:
        async with rig(*[f"/nonexistent/{n}" for n in range(9)]) as r, await r.connect() as c:
            c.send(get())
            status, _, body = await c.answer()
            assert status == 502
            assert b"no container could be reached" in body

    run(main())


@pytest.mark.parametrize(("method", "body", "status"), [(b"GET", b"", 200), (b"POST", b"", 502), (b"PUT", b"abc", 502)])
def test_a_kept_connection_that_died_is_retried_where_that_is_safe(method: bytes, body: bytes, status: int) -> None:
    connections = 0

    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await read_request(reader)
            writer.write(OK)
            await read_request(reader)
            if connections > 1:
                writer.write(OK)

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            assert (await c.answer())[0] == 200
            extra = [b"Content-Length: %d" % len(body)] if body else []
            c.send(get(b"/", *extra, method=method) + body)
            assert (await c.answer())[0] == status
            assert len(r.records) == 2

    run(main())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000,
    ],
)
def test_nonsense_from_a_container_is_a_502(nonsense: bytes) -> None:
    async def main() -> None:
        async with scripted(replies(nonsense)) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            status, _, body = await c.answer()
            assert status == 502
            assert b"not valid HTTP" in body

    run(main())


def test_a_function_that_takes_too_long_is_a_504() -> None:
    async def main() -> None:
        async with scripted(hangs) as path, rig(path, timeout=0.1, max_inputs=1) as r, await r.connect() as c:
            r.admission.on_change.clear()
            c.send(get())
            status, _, body = await c.answer()
            assert status == 504
            assert b"within its timeout of 0.1 s" in body
            assert [b.id for b in r.timed_out] == ["c-0"]
            assert r.admission.in_flight == 0
            assert (await r.record()).status == 504

    run(main())


def test_a_timeout_counts_from_the_hand_over() -> None:
    async def main() -> None:
        async with uvicorn_at(count_body) as path, rig(timeout=1.5) as r, await r.connect() as c:
            c.send(get())
            await until(lambda: r.admission.waiting == 1, "waiting")
            await asyncio.sleep(1.8)
            r.admission.add(Backend("late", path, started=time.monotonic(), fork_seconds=0.004))
            assert (await c.answer())[0] == 200
            record = await r.record()
            assert record.start == "cold"
            assert record.fork == 0.004
            assert record.queue > 1.7

    run(main())


def test_a_stream_that_is_not_over_in_time_is_cut() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            await reader.read()

        async with scripted(script) as path, rig(path, timeout=0.2) as r:
            raw = await r.ask(get())
            assert raw.endswith(b"2\r\nok\r\n")
            assert len(r.timed_out) == 1

    run(main())


def test_waiting_too_long_for_a_container_is_a_504() -> None:
    async def main() -> None:
        async with rig(queue_timeout=0.1) as r, await r.connect() as c:
            c.send(get())
            status, _, body = await c.answer()
            assert status == 504
            assert b"no container became free" in body
            assert r.admission.waiting == 0
            c.send(get())
            assert (await c.answer())[0] == 504

    run(main())


def test_a_full_line_is_a_prompt_503() -> None:
    async def main() -> None:
        async with rig(max_waiting=1) as r, await r.connect() as first, await r.connect() as second:
            first.send(get())
            await until(lambda: r.admission.waiting == 1, "waiting")
            second.send(get())
            status, headers, body = await second.answer()
            assert (status, headers[b"retry-after"]) == (503, b"1")
            assert b"1 requests wait" in body
            r.admission.fail(ContainerError("import failed: no module named x", "Traceback: secret"))
            status, _, body = await first.answer()
            assert status == 502
            assert b"could not be started" in body
            assert b"secret" not in body
            assert "no module named x" in str((await r.record(2)).error)

    run(main())


def test_under_serve_a_failed_start_shows_the_traceback() -> None:
    async def main() -> None:
        async with rig(debug=True) as r, await r.connect() as c:
            r.admission.fail(ContainerError("import failed", "Traceback: line 3"), lasting=True)
            c.send(get())
            status, _, body = await c.answer()
            assert status == 502
            assert b"Traceback: line 3" in body

    run(main())


def test_a_client_that_leaves_while_waiting_leaves_the_line() -> None:
    async def main() -> None:
        async with rig(limits=Limits(half_closed=0.05)) as r:
            async with await r.connect() as c:
                c.send(get())
                await until(lambda: r.admission.waiting == 1, "waiting")
            await until(lambda: r.admission.waiting == 0, "left")
            record = await r.record()
            assert record.status == 499
            assert "waited" in str(record.error)

    run(main())


def test_the_app_learns_that_its_client_left_and_its_place_is_kept_until_it_is_done() -> None:
    disconnected = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        disconnected.set()

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path, limits=Limits(half_closed=0.05)) as r:
            async with await r.connect() as c:
                c.send(get())
                await until(lambda: r.admission.in_flight == 1, "in flight")
            await asyncio.wait_for(disconnected.wait(), 5)
            assert (await r.record()).status == 499
            await until(lambda: r.admission.in_flight == 0, "released")

    run(main())


def test_the_slot_of_a_client_that_left_is_released_when_the_container_closes() -> None:
    async def main() -> None:
        done, told = asyncio.Event(), asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.read() == b""
            told.set()
            await done.wait()

        async with scripted(script) as path, rig(path, max_inputs=1, limits=Limits(half_closed=0.05)) as r:
            async with await r.connect() as c:
                c.send(get())
                await until(lambda: r.admission.in_flight == 1, "in flight")
            await asyncio.wait_for(told.wait(), 5)
            assert (await r.record()).status == 499
            assert r.admission.in_flight == 1
            done.set()
            await until(lambda: r.admission.in_flight == 0, "released")
            assert r.gateway.settling == {}

    run(main())


def test_a_container_still_at_work_for_a_client_that_left_has_its_timeout() -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            await done.wait()

        async with scripted(script) as path, rig(path, timeout=0.3, limits=Limits(half_closed=0.05)) as r:
            async with await r.connect() as c:
                c.send(get())
                await until(lambda: r.admission.in_flight == 1, "in flight")
            await until(lambda: r.admission.in_flight == 0, "released")
            assert [b.id for b in r.timed_out] == ["c-0"]
            done.set()

    run(main())


def test_a_half_closed_client_still_gets_a_quick_answer() -> None:
    async def main() -> None:
        async with uvicorn_at(count_body) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            c.writer.write_eof()
            raw = await c.rest()
            assert parse_head(raw)[0] == 200
            assert raw.endswith(b"0")

    run(main())


def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            ended.set()

        async with scripted(script) as path, rig(path) as r:
            async with await r.connect() as c:
                c.send(get(b"/", b"Content-Length: 100", method=b"POST") + b"x" * 10)
                await until(lambda: r.admission.in_flight == 1, "in flight")
            await asyncio.wait_for(ended.wait(), 5)
            assert (await r.record()).status == 499

    run(main())


def test_an_answer_before_the_body_ended_arrives_and_the_connection_ends() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nstop")
            await reader.read()

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/", b"Content-Length: 1000000", method=b"POST") + b"x" * 1000)
            status, headers, body = await c.answer()
            assert (status, body, headers[b"connection"]) == (413, b"stop", b"close")
            c.send(b"x" * 999_000 + get())
            assert await c.rest() == b""
            assert r.admission.backends[0].idle == []

    run(main())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413(chunked: bool) -> None:
    async def main() -> None:
        async with scripted(hangs) as path, rig(path, max_body=1000) as r, await r.connect() as c:
            if chunked:
                c.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"200\r\n" + b"x" * 512 + b"\r\n")
                await until(lambda: r.admission.in_flight == 1, "in flight")
                c.send(b"200\r\n" + b"x" * 512 + b"\r\n")
            else:
                c.send(get(b"/", b"Content-Length: 1001", method=b"POST"))
            status, headers, body = await c.answer()
            assert (status, headers[b"connection"]) == (413, b"close")
            assert b"larger than the 1000 bytes that are accepted (ZYGO_MAX_BODY_BYTES)" in body

    run(main())


@pytest.mark.parametrize(
    ("first", "status"),
    [(b"", None), (b"GET / HT", 408), (get() + b"GET / HTTP/1.1\r\nHost:", 408)],
    ids=["nothing", "half a head", "half a second head"],
)
def test_a_client_that_does_not_come_to_the_point(first: bytes, status: int | None) -> None:
    async def main() -> None:
        limits = Limits(head=0.2, keep_alive=0.2)
        async with uvicorn_at(count_body) as path, rig(path, limits=limits) as r, await r.connect() as c:
            c.send(first)
            raw = await c.rest()
            assert raw.count(b"HTTP/1.1 200") == first.count(b"\r\n\r\n")
            assert (b"HTTP/1.1 408" in raw) is (status == 408)

    run(main())


def test_a_body_that_stops_coming_is_a_408() -> None:
    async def main() -> None:
        async with scripted(hangs) as path, rig(path, limits=Limits(body_idle=0.2)) as r, await r.connect() as c:
            c.send(get(b"/", b"Content-Length: 10", method=b"POST") + b"x")
            assert (await c.answer())[0] == 408

    run(main())


def test_an_idle_connection_is_closed_in_the_end() -> None:
    async def main() -> None:
        async with (
            uvicorn_at(count_body) as path,
            rig(path, limits=Limits(keep_alive=0.2)) as r,
            await r.connect() as c,
        ):
            c.send(get())
            assert (await c.answer())[0] == 200
            assert await c.rest() == b""

    run(main())


def test_a_request_with_a_body_waits_without_being_read_to_the_end() -> None:
    async def main() -> None:
        async with uvicorn_at(count_body) as path, rig() as r, await r.connect() as c:
            size = 20_000_000
            c.send(get(b"/", b"Content-Length: %d" % size, method=b"POST") + b"x" * size)
            await until(lambda: r.admission.waiting == 1, "waiting")
            connection = next(iter(r.gateway.connections))
            await until(lambda: connection._paused, "reading stopped")
            assert connection.current is not None
            assert connection.current.pending_size < 2_000_000
            r.admission.add(Backend("late", path))
            assert (await c.answer())[2] == str(size).encode()

    run(main())


def test_refusals_of_pipelined_requests_keep_their_turn() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await go.wait()
            writer.write(OK)
            await reader.read()

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(get() + get(host="unknown.localhost") + b"\x00garbage\r\n\r\n")
            await until(lambda: r.admission.in_flight == 1, "in flight")
            go.set()
            assert (await c.answer())[0] == 200
            assert (await c.answer())[0] == 404
            assert (await c.answer())[0] in (400, 501)
            assert await c.rest() == b""

    run(main())


def test_requests_beyond_a_containers_limit_go_one_after_the_other() -> None:
    at_once = most = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with uvicorn_at(app) as path, rig(path, max_inputs=1) as r:
            raws = await asyncio.gather(*[r.ask(last(b"/%d" % n)) for n in range(50)])
            assert all(raw.startswith(b"HTTP/1.1 200") for raw in raws)
            assert r.admission.backends[0].served == 50
            assert r.waits

    run(main())
    assert most == 1


def test_host_names_in_refusals_cannot_carry_markup() -> None:
    async def main() -> None:
        async with rig() as r:
            raw = await r.ask(get(host="<script>"))
            assert raw.startswith(b"HTTP/1.1 400")
            assert b"<script>" not in raw
            assert HOST.encode() not in raw

    run(main())
