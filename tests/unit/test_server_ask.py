"""The question of a proxy before it gets a certificate."""

from __future__ import annotations

import asyncio

import pytest

from zygo.server import ask


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (b"GET /?domain=a.example.com HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET /?domain=A.Example.com. HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /?domain=b.example.com HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /?domain=a.example.com&domain=b.example.com HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"POST /?domain=a.example.com HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"GET /?domain=" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", b""),
        (b"GET /?domain=a.exam", b""),
    ],
)
def test_answers(question: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "SECONDS", 0.2)

    async def body() -> bytes:
        server = await ask.listen(0, lambda name: name == "a.example.com")
        async with server:
            host, port = server.sockets[0].getsockname()
            assert host == "127.0.0.1"
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(question)
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

    head = asyncio.run(body()).partition(b"\r\n")[0]
    assert head == (b"HTTP/1.1 " + answer if answer else b"")
