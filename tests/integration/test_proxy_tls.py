"""TLS at the gateway: the same requests as without, certificates by name, their renewal, the redirect from the plain port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import websockets

from integration.proxy_kit import (
    HOST,
    Client,
    Receive,
    Rig,
    Scope,
    Send,
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
from tls_kit import Authority
from zygo.gateway.certificates import Certificates
from zygo.gateway.proxy import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def secure_rig(authority: Authority, *paths: str, **options: Any) -> AsyncIterator[tuple[Rig, Certificates]]:
    """A rig with a TLS listener beside the plain one, for HOST."""
    certificates = Certificates([authority.pair("a", HOST, "*.localhost")])
    async with rig(*paths, **options) as r:
        await r.gateway.listen_securely("127.0.0.1", 0, certificates)
        yield r, certificates


async def connect(r: Rig, authority: Authority, name: str = HOST) -> Client:
    port = r.gateway.secure_port
    context = authority.client()
    return Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name, limit=2**24))


def subject(client: Client) -> str:
    found = client.writer.get_extra_info("peercert")
    return str(dict(item[0] for item in found["subject"])["commonName"])


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was told of the request, then sends its body back piece by piece."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"], "bytes": None})
        return
    headers = [(b"x-scheme", scope["scheme"].encode()), (b"x-client", scope["client"][0].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
        if not more:
            return


def test_requests_over_tls_on_one_connection(authority: Authority) -> None:
    async def body() -> None:
        async with uvicorn_at(echo) as path, secure_rig(authority, path) as (r, _):
            client = await connect(r, authority)
            async with client:
                assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                for _ in range(3):
                    client.send(get(b"/", b"Content-Length: 5", method=b"POST") + b"hello")
                    status, headers, got = await client.answer()
                    assert (status, got) == (200, b"hello")
                    assert headers[b"x-scheme"] == b"https"
                    assert headers[b"x-client"] == b"127.0.0.1"
                client.send(last())
                assert parse_head(await client.rest())[0] == 200
            assert len(r.records) == 4

    run(body())


def test_websockets_over_tls(authority: Authority) -> None:
    async def body() -> None:
        async with uvicorn_at(echo) as path, secure_rig(authority, path) as (r, _):
            url = f"wss://{HOST}:{r.gateway.secure_port}/"
            async with websockets.connect(url, ssl=authority.client(), host="127.0.0.1", proxy=None) as socket:
                assert await socket.recv() == "wss"
                for text in ("a", "b" * 100_000):
                    await socket.send(text)
                    assert await socket.recv() == text

    run(body())


def test_a_reader_that_stops_stops_the_container(authority: Authority) -> None:
    """Back-pressure through TLS: what the gateway holds is bounded, and all of it arrives."""
    size, written = 64 * 2**20, 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 65536
        while written < size:
            writer.write(piece)
            await writer.drain()
            written += len(piece)
        await reader.read(1)

    async def body() -> None:
        async with scripted(script) as path, secure_rig(authority, path) as (r, _):
            port, context = r.gateway.secure_port, authority.client()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=HOST, limit=2**16
            )
            client = Client(reader, writer)
            async with client:
                client.send(last())
                head = await client.upto(b"\r\n\r\n")
                before = -1
                while written != before:  # it has come to rest
                    before = written
                    await asyncio.sleep(0.2)
                assert 0 < written < 24 * 2**20, written
                got = await client.exactly(size)
                assert len(got) == size
                assert parse_head(head)[0] == 200

    run(body())


def test_a_client_that_ends_tls_has_left(authority: Authority) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        assert await reader.read(1) == b""  # the gateway tells the container

    async def body() -> None:
        async with scripted(script) as path, secure_rig(authority, path) as (r, _):
            client = await connect(r, authority)
            client.send(get())
            await until(lambda: r.admission.in_flight == 1, "in flight")
            async with client:
                pass
            assert (await r.record()).status == 499
            await until(lambda: not r.admission.in_flight, "released")

    run(body())


def test_an_early_refusal_arrives_although_the_body_goes_on(authority: Authority) -> None:
    async def body() -> None:
        async with (
            scripted(replies()) as path,
            secure_rig(authority, path, max_body=1000, limits=Limits(linger=0.3)) as (r, _),
        ):
            client = await connect(r, authority)
            async with client:
                client.send(get(b"/", b"Content-Length: 50000000", method=b"POST") + b"x" * 1_000_000)
                status, headers, _ = await client.answer()
                assert (status, headers[b"connection"]) == (413, b"close")
                client.send(b"x" * 1_000_000)
                assert await client.rest() == b""

    run(body())


def test_the_certificate_follows_the_name(authority: Authority) -> None:
    async def body() -> None:
        pairs = [
            authority.pair("first", HOST),
            authority.pair("exact", "b.localhost"),
            authority.pair("star", "*.apps.localhost"),
        ]
        async with rig("/nowhere") as r:
            await r.gateway.listen_securely("127.0.0.1", 0, Certificates(pairs))
            for name, expected in ((HOST, "first"), ("b.localhost", "exact"), ("c.apps.localhost", "star")):
                async with await connect(r, authority, name) as client:
                    assert subject(client) == expected
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(r, authority, "elsewhere.example.com")

    run(body())


def test_renewed_files_are_used_and_connections_go_on(authority: Authority) -> None:
    async def body() -> None:
        async with (
            scripted(replies(OK, OK)) as path,
            secure_rig(authority, path) as (r, certificates),
            await connect(r, authority) as client,
        ):
            client.send(get())
            assert (await client.answer())[0] == 200
            authority.pair("a", "new.localhost")
            assert [certificates.refresh(), certificates.refresh()] == [False, True]
            async with await connect(r, authority, "new.localhost"):
                pass
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(r, authority)
            client.send(get())
            assert (await client.answer())[0] == 200

    run(body())


def test_the_plain_port_sends_to_https_when_it_is_told_to(authority: Authority) -> None:
    async def body() -> None:
        async with scripted(replies(OK)) as path, secure_rig(authority, path) as (r, _):
            secure = r.gateway.secure_port
            assert parse_head(await r.ask(last()))[0] == 200
            r.gateway.redirected_port = r.port
            status, headers = parse_head(await r.ask(last(b"/a?b=c")))
            assert status == 308
            assert headers[b"location"] == f"https://{HOST}:{secure}/a?b=c".encode()
            r.gateway.secure_port = 443
            _, headers = parse_head(await r.ask(last()))
            assert headers[b"location"] == f"https://{HOST}/".encode()

    run(body())


def test_a_plain_request_at_the_tls_port_ends(authority: Authority) -> None:
    async def body() -> None:
        async with secure_rig(authority, "/nowhere") as (r, _):
            client = Client(*await asyncio.open_connection("127.0.0.1", r.gateway.secure_port))
            async with client:
                client.send(get())
                await client.rest()
            assert not r.gateway.connections

    run(body())
