"""Requests that were made to be read in two ways: each one is refused, and nothing behind it is ever answered."""

from __future__ import annotations

import asyncio

import pytest

from integration.proxy_kit import HOST, get, rig, run, scripted

pytestmark = pytest.mark.timeout(20)

HOST_LINE = b"Host: %b\r\n" % HOST.encode()
POST = b"POST / HTTP/1.1\r\n" + HOST_LINE
SMUGGLED = get(b"/smuggled")
CHUNKED = b"Transfer-Encoding: chunked\r\n"

ATTEMPTS: dict[str, bytes] = {
    "CL.TE": POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nX" + SMUGGLED,
    "TE.CL": POST + CHUNKED + b"Content-Length: 4\r\n\r\n5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    "CL 0 and TE": POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + SMUGGLED,
    "length list": POST + b"Content-Length: 3, 3\r\n\r\nabc" + SMUGGLED,
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc" + SMUGGLED,
    "hex length": POST + b"Content-Length: 0x3\r\n\r\nabc" + SMUGGLED,
    "empty length": POST + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "length with a blank in its name": POST + b"Content-Length : 3\r\n\r\nabc" + SMUGGLED,
    "folded TE": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE with a tab": POST + b"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE twice": POST + CHUNKED * 2 + b"\r\n0\r\n\r\n" + SMUGGLED,
    "TE on HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST_LINE + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "bare LF lines": b"POST / HTTP/1.1\nHost: " + HOST.encode() + b"\nContent-Length: 0\n\n" + SMUGGLED,
    "bare CR in a value": POST + b"X: a\rContent-Length: 3\r\n\r\n" + SMUGGLED,
    "NUL in a value": POST + b"X: a\x00b\r\n\r\n" + SMUGGLED,
    "NUL in a name": POST + b"X\x00Y: a\r\n\r\n" + SMUGGLED,
    "folded header": POST + b"X: a\r\n b\r\n\r\n" + SMUGGLED,
    "header without a colon": POST + b"Nonsense\r\n\r\n" + SMUGGLED,
    "leading blank": b" " + POST + b"\r\n" + SMUGGLED,
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST_LINE * 2 + b"\r\n" + SMUGGLED,
    "no host": b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED,
    "absolute form that differs": b"GET http://evil.localhost/ HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /\r\n\r\n" + SMUGGLED,
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    "CONNECT": b"CONNECT evil:443 HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "blank in the target": b"GET /a b HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "raw UTF-8 in the target": "GET /é HTTP/1.1\r\n".encode() + HOST_LINE + b"\r\n" + SMUGGLED,
    "lower-case method": b"get / HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "unknown method": b"SMUGGLE / HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "too many headers": POST + b"X: y\r\n" * 300 + b"\r\n" + SMUGGLED,
    "a head that is too long": POST + b"X: " + b"y" * 70_000 + b"\r\n\r\n" + SMUGGLED,
    "a target that is too long": b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n" + SMUGGLED,
    "a head without an end": POST + b"X: " + b"y" * 400_000,
    "unknown expectation": POST + b"Expect: tea\r\nContent-Length: 3\r\n\r\n" + SMUGGLED,
}

BROKEN_BODIES: dict[str, bytes] = {
    "bare LF in chunks": b"3\nabc\n0\n\n",
    "bare LF after data": b"3\r\nabc\n0\r\n\r\n",
    "hex prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "blank after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "size that wraps": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "LF in an extension": b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
    "too much data": b"3\r\nabcd\r\n0\r\n\r\n",
    "length in the trailers": b"3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n",
}


async def ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every head at once and remembers nothing: a smuggled request would get an answer too."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("raw", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_an_ambiguous_request_is_refused_and_the_connection_ends(raw: bytes) -> None:
    async def main() -> None:
        async with scripted(ok) as path, rig(path) as r:
            said = await r.ask(raw)
            assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 417", b"HTTP/1.1 431", b"HTTP/1.1 50")), said
            assert said.count(b"X-Request-Id: ") == 1, said
            assert b"Connection: close" in said
            assert b"request id: " in said
            assert r.admission.backends[0].served == 0

    run(main())


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES.keys())
def test_broken_chunks_never_become_a_request(body: bytes) -> None:
    """The head was sound, so the request may have begun; but what follows must be refused or cut, never answered."""

    async def main() -> None:
        heads: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))

        async with scripted(script) as path, rig(path) as r:
            said = await r.ask(POST + CHUNKED + b"\r\n" + body + SMUGGLED)
            assert said.startswith(b"HTTP/1.1 400"), said
            assert said.count(b"X-Request-Id: ") == 1
            assert not any(b"/smuggled" in head for head in heads)

    run(main())


def test_chunks_are_framed_anew() -> None:
    async def main() -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            got.set_result(await reader.readuntil(b"0\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()

        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(POST + CHUNKED + b"\r\n1;ext=1\r\na\r\n002\r\nbc\r\n0\r\nX-Trailer: 1\r\n\r\n")
            assert await got == b"3\r\nabc\r\n0\r\n\r\n"
            assert (await c.answer())[0] == 200

    run(main())


def test_an_upgrade_to_http_2_is_ignored_and_its_body_is_a_body() -> None:
    """Java's client asks for h2c with every request; and h2c through a proxy is a way around it."""

    async def main() -> None:
        heads: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                if b"Content-Length: 40" in head:
                    await reader.readexactly(40)
                elif b"chunked" in head:
                    await reader.readuntil(b"0\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nabcde"
        assert len(inner) == 40
        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(POST + h2c + b"Content-Length: 40\r\n\r\n" + inner)
            assert (await c.answer())[2] == b"ok"
            c.send(POST + h2c + b"\r\n" + POST + h2c + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n" + get(b"/last"))
            for _ in range(3):
                assert (await c.answer())[2] == b"ok"
            assert len(heads) == 4
            assert not any(b"pgrade" in head or b"HTTP2" in head for head in heads)

    run(main())


def test_bytes_after_connection_close_are_ignored() -> None:
    async def main() -> None:
        async with scripted(ok) as path, rig(path) as r:
            said = await r.ask(get(b"/", b"Connection: close") + SMUGGLED + b"garbage")
            assert said.count(b"HTTP/1.1 200") == 1
            assert said.endswith(b"ok")
            assert r.admission.backends[0].served == 1

    run(main())


def test_headers_that_look_like_the_gateways_own_do_not_reach_the_app() -> None:
    async def main() -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()

        names = (b"X-Forwarded-For", b"X_Forwarded-For", b"x-real_ip", b"Forwarded", b"X-Request-Id")
        evil = b"".join(name + b": evil\r\n" for name in names)
        async with scripted(script) as path, rig(path) as r, await r.connect() as c:
            c.send(POST + evil + b"Content_Length: 5\r\nConnection: x-forwarded-for, host\r\n\r\n")
            head = await got
            assert b"evil" not in head
            assert b"_" not in head
            assert head.count(b"X-Forwarded-For: 127.0.0.1\r\n") == 1
            assert head.count(b"\r\n" + HOST_LINE) == 1
            assert (await c.answer())[0] == 200

    run(main())
