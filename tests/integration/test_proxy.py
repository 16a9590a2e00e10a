"""Ordinary requests through the gateway to a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from integration.proxy_kit import HOST, Client, get, last, parse_head, replies, rig, run, scripted, until, uvicorn_at
from zygo.gateway.container import Backend
from zygo.gateway.routes import Endpoint, Routes

if TYPE_CHECKING:
    from integration.proxy_kit import Receive, Scope, Send

pytestmark = pytest.mark.timeout(20)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it saw, as JSON; the body's size stands for the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "client": scope["client"][0] if scope["client"] else None,
        "scheme": scope["scheme"],
        "headers": [[k.decode(), v.decode()] for k, v in scope["headers"]],
        "size": size,
    }
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json")]
    if scope["path"] != "/chunked":
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/chunked":
        for start in range(0, len(body), 50):
            await send({"type": "http.response.body", "body": body[start : start + 50], "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


def seen(answer: tuple[int, dict[bytes, bytes], bytes]) -> dict[str, Any]:
    status, _, body = answer
    assert status == 200, body
    said: dict[str, Any] = json.loads(body)
    said["headers"] = dict(said["headers"])
    return said


def test_an_ordinary_request_and_what_the_app_sees_of_it() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/a/b?x=1&y=%20", b"X-Forwarded-For: 6.6.6.6", b"X_Forwarded_For: 6.6.6.6", b"Cookie: a=b"))
            status, headers, body = await c.answer()
            said = seen((status, headers, body))
            assert (said["method"], said["path"], said["query"]) == ("GET", "/a/b", "x=1&y=%20")
            assert said["client"] == "127.0.0.1"
            assert said["scheme"] == "http"
            assert said["headers"]["host"] == HOST
            assert said["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert said["headers"]["x-forwarded-host"] == HOST
            assert said["headers"]["x-forwarded-proto"] == "http"
            assert said["headers"]["cookie"] == "a=b"
            assert "x_forwarded_for" not in said["headers"]
            assert headers[b"x-request-id"].decode() == said["headers"]["x-request-id"]
            assert b"connection" not in headers
            record = await r.record()
            assert (record.method, record.path, record.status, record.start) == ("GET", "/a/b", 200, "warm")
            assert (record.container, record.client, record.error) == ("c-0", "127.0.0.1", None)
            assert 0 <= record.first <= record.total < 5
            assert record.timing.start == "warm"

    run(main())


def test_connections_are_kept_on_both_sides() -> None:
    connections = 0

    async def main() -> None:
        nonlocal connections

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await replies(*[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"] * 9)(reader, writer)

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            for _ in range(5):
                c.send(get())
                assert (await c.answer())[2] == b"ok"
            assert r.admission.backends[0].served == 5
            assert len(r.admission.backends[0].idle) == 1

    run(main())
    assert connections == 1


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            post = get(b"/p", b"Content-Length: 5", method=b"POST") + b"hello"
            chunked = get(b"/q", b"Transfer-Encoding: chunked", method=b"POST") + b"3\r\nabc\r\n0\r\n\r\n"
            c.send(b"".join(get(b"/%d" % n) for n in range(20)) + post + chunked + last(b"/z"))
            for n in range(20):
                assert seen(await c.answer())["path"] == f"/{n}"
            assert seen(await c.answer())["size"] == 5
            assert seen(await c.answer())["size"] == 3
            assert seen(await c.answer())["path"] == "/z"
            assert await c.rest() == b""

    run(main())


def test_a_request_that_comes_byte_by_byte() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            raw = get(b"/slow", b"Transfer-Encoding: chunked", method=b"POST") + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            for n in range(len(raw)):
                c.send(raw[n : n + 1])
                await c.writer.drain()
                await asyncio.sleep(0)
            said = seen(await c.answer())
            assert (said["path"], said["size"]) == ("/slow", 5)

    run(main())


def test_chunked_answers() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r:
            async with await r.connect() as c:
                for _ in range(2):
                    c.send(get(b"/chunked"))
                    assert seen(await c.answer())["path"] == "/chunked"
            # HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
            raw = await r.ask(b"GET /chunked HTTP/1.0\r\nHost: %b\r\nConnection: keep-alive\r\n\r\n" % HOST.encode())
            status, headers = parse_head(raw)
            assert status == 200
            assert b"transfer-encoding" not in headers
            assert headers[b"connection"] == b"close"
            assert json.loads(raw.partition(b"\r\n\r\n")[2])["path"] == "/chunked"

    run(main())


def test_http_1_0_may_keep_its_connection() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            for _ in range(2):
                c.send(b"GET / HTTP/1.0\r\nHost: %b\r\nConnection: keep-alive\r\n\r\n" % HOST.encode())
                status, headers, _ = await c.answer()
                assert (status, headers[b"connection"]) == (200, b"keep-alive")
            c.send(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % HOST.encode())
            assert (await c.answer())[1][b"connection"] == b"close"
            assert await c.rest() == b""

    run(main())


def test_head_has_no_body_and_the_connection_goes_on() -> None:
    async def main() -> None:
        answers = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ]
        async with scripted(replies(*answers)) as path, rig(path) as r, await r.connect() as c:
            c.send(get(method=b"HEAD") * 2)
            assert b"Content-Length: 5" in await c.upto(b"\r\n\r\n")
            assert b"chunked" not in await c.upto(b"\r\n\r\n")
            c.send(get())
            assert b"304" in await c.upto(b"\r\n\r\n")
            c.send(get())
            assert b"204" in await c.upto(b"\r\n\r\n")
            c.send(get())
            assert (await c.answer())[2] == b"ok"
            assert len(r.admission.backends[0].idle) == 1

    run(main())


def test_a_body_of_a_container_that_answers_head_with_one_is_dropped() -> None:
    async def main() -> None:
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        async with scripted(replies(wrong)) as path, rig(path) as r, await r.connect() as c:
            c.send(get(method=b"HEAD"))
            assert (await c.upto(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert r.admission.backends[0].idle == []
            c.send(last(method=b"HEAD"))
            assert (await c.rest()).startswith(b"HTTP/1.1 200")

    run(main())


def test_what_a_container_sends_beyond_its_answer_never_reaches_the_next_request() -> None:
    async def main() -> None:
        greedy = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        async with scripted(replies(greedy)) as path, rig(path) as r, await r.connect() as c:
            for _ in range(3):
                c.send(get())
                assert (await c.answer())[2] == b"ok"

    run(main())


def test_a_container_that_talks_out_of_turn_loses_the_connection() -> None:
    async def main() -> None:
        said = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await said.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await reader.read()

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(get())
            assert (await c.answer())[2] == b"ok"
            said.set()
            await until(lambda: not r.admission.backends[0].idle, "connection dropped")
            c.send(get())
            assert (await c.answer())[2] == b"ok"

    run(main())


def test_100_continue_comes_from_the_app_when_it_reads() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            c.send(get(b"/up", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
            assert await c.upto(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            c.send(b"hello")
            assert seen(await c.answer())["size"] == 5
            c.send(get(b"/next"))
            assert seen(await c.answer())["path"] == "/next"

    run(main())


def test_early_hints_are_passed_on_but_not_to_http_1_0() -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        async with scripted(replies(answer, answer)) as path, rig(path) as r:
            async with await r.connect() as c:
                c.send(get())
                assert await c.upto(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                assert (await c.answer())[2] == b"ok"
            old = await r.ask(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % HOST.encode())
            assert old.startswith(b"HTTP/1.1 200")

    run(main())


def test_response_trailers_reach_a_client_that_asks_for_them() -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n"
        async with scripted(replies(answer, answer)) as path, rig(path) as r:
            asked = await r.ask(last(b"/", b"TE: trailers"))
            assert asked.endswith(b"2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
            assert (await r.ask(last())).endswith(b"2\r\nok\r\n0\r\n\r\n")

    run(main())


def test_an_answer_that_ends_with_its_connection() -> None:
    async def main() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nab")
            await writer.drain()
            writer.write(b"cd")

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            for _ in range(2):
                c.send(get())
                assert (await c.answer())[2] == b"abcd"

    run(main())


def test_bodies_up() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            size = 3_000_000
            c.send(get(b"/", b"Content-Length: %d" % size, method=b"POST") + b"x" * size + get(b"/after"))
            assert seen(await c.answer())["size"] == size
            assert seen(await c.answer())["path"] == "/after"
            c.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
            for _ in range(30):
                c.send(b"186a0\r\n" + b"y" * 100_000 + b"\r\n")
            c.send(b"0\r\nX-Trailer: dropped\r\n\r\n")
            said = seen(await c.answer())
            assert said["size"] == size
            assert "x-trailer" not in said["headers"]
            c.send(get(b"/", b"Content-Length: 0", method=b"PUT"))
            assert seen(await c.answer())["size"] == 0

    run(main())


def test_hosts_are_matched_exactly_without_case_and_port() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r, await r.connect() as c:
            for host in ("HELLO.localhost:1234", "hello.localhost."):
                c.send(get(host=host))
                assert seen(await c.answer())["headers"]["host"] == host
            for host in ("x.hello.localhost", "localhost", "127.0.0.1"):
                c.send(get(host=host))
                status, headers, body = await c.answer()
                assert status == 404
                assert f"no endpoint at {host}".encode() in body
                assert b"hello.localhost\n" not in body.replace(host.encode(), b"")
                assert headers[b"x-request-id"] in body
            c.send(get(b"http://hello.localhost/abs", host="hello.localhost"))
            assert seen(await c.answer())["path"] == "/abs"

    run(main())


def test_a_port_of_its_own_routes_whatever_the_host() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path) as r:
            port = await r.gateway.add_listener(0, r.endpoint)
            c = Client(*await asyncio.open_connection("127.0.0.1", port))
            async with c:
                c.send(get(host="anything.example:5"))
                assert seen(await c.answer())["headers"]["host"] == "anything.example:5"
                c.send(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert seen(await c.answer())["path"] == "/old"
                c.send(b"GET / HTTP/1.1\r\n\r\n")
                assert (await c.answer())[0] == 400
            r.gateway.remove_listener(port)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            assert r.gateway.routes.ports == {}

    run(main())


def test_a_port_that_is_taken_makes_way() -> None:
    async def main() -> None:
        async with rig() as r:
            other = await r.gateway.start("127.0.0.1", r.port)
            assert other > r.port

    run(main())


def test_routes_are_swapped_whole_under_an_open_connection() -> None:
    async def main() -> None:
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
        async with (
            scripted(replies(ok + b"old")) as old,
            scripted(replies(ok + b"new", ok + b"new")) as new,
            rig(old) as r,
            await r.connect() as c,
        ):
            c.send(get())
            assert (await c.answer())[2] == b"old"
            r.admission.set_backends([Backend("c-new", new)])
            c.send(get())
            assert (await c.answer())[2] == b"new"
            r.gateway.routes = Routes({}, {})
            c.send(get())
            assert (await c.answer())[0] == 404
            r.gateway.routes = Routes({HOST: r.endpoint}, {})
            c.send(get())
            assert (await c.answer())[2] == b"new"

    run(main())


def test_forwarded_headers_of_a_trusted_proxy_are_believed() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path, trusted_proxies=("127.0.0.0/8",)) as r, await r.connect() as c:
            c.send(
                get(
                    b"/",
                    b"X-Forwarded-For: 6.6.6.6, 8.8.8.8",
                    b"X-Forwarded-Proto: https",
                    b"X-Forwarded-Host: public.example",
                )
            )
            said = seen(await c.answer())
            assert (said["client"], said["scheme"]) == ("8.8.8.8", "https")
            assert said["headers"]["x-forwarded-host"] == "public.example"
            assert (await r.record()).client == "8.8.8.8"

    run(main())


def test_server_timing_is_for_developers() -> None:
    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path, debug=True) as r, await r.connect() as c:
            c.send(get())
            timing = (await c.answer())[1][b"server-timing"].decode()
            assert re.fullmatch(r"start;desc=warm, queue;dur=[\d.]+, fork;dur=0.0, app;dur=[\d.]+", timing)

    run(main())


def test_a_failing_listener_does_not_fail_the_request() -> None:
    def broken(_: object) -> None:
        raise RuntimeError("full disk")

    async def main() -> None:
        async with uvicorn_at(echo) as path, rig(path, log=broken) as r, await r.connect() as c:
            c.send(get() * 2)
            assert [(await c.answer())[0] for _ in range(2)] == [200, 200]

    run(main())


def test_a_drain_finishes_what_is_served_and_closes_what_is_idle() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()

        async with scripted(script) as path, rig(path) as r, await r.connect() as busy, await r.connect() as idle:
            busy.send(get())
            await until(lambda: r.admission.in_flight == 1, "in flight")
            closing = asyncio.ensure_future(r.gateway.close(grace=5))
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await r.connect()
            go.set()
            status, headers, body = await busy.answer()
            assert (status, body, headers[b"connection"]) == (200, b"ok", b"close")
            await closing

    run(main())


def test_an_endpoint_is_a_plain_record() -> None:
    async def main() -> None:
        async with rig() as r:
            endpoint = Endpoint("f", "a", "u", r.admission)
            assert endpoint.explain(Backend("x", "/x")) is None
            endpoint.on_died(Backend("x", "/x"))

    run(main())


def test_while_the_gateway_holds_requests_wait() -> None:
    """A server that starts knows its routes a moment after its port is open."""

    async def body() -> None:
        async with scripted(replies(OK_HELD)) as path, rig(path) as r:
            routes, r.gateway.routes = r.gateway.routes, Routes({}, {})
            r.gateway.hold()
            async with await r.connect() as client:
                client.send(get())
                await until(lambda: len(r.gateway.connections) == 1, "connected")
                async with await r.connect() as other:
                    await until(lambda: len(r.gateway.connections) == 2, "connected, and so the first one was seen")
                    r.gateway.routes = routes
                    r.gateway.release()
                    assert (await client.answer())[0] == 200
                    assert not other.reader.at_eof()

    run(body())


OK_HELD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
