"""How requests to a server elsewhere share connections: kept, made ahead, and closed by somebody whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from zygo import errors
from zygo.sdk import resuming
from zygo.sdk.client import Client
from zygo.sdk.resuming import RemoteSession
from zygo.sdk.transport import over_tcp
from zygo.sdk.where import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from zygo.sdk.transport import KeptTransport


class Server:
    """Answers every request with the number of its connection; those of a `quiet` path are never answered, and those
    of a `trickling` one with a byte now and then."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.quiet: set[str] = set()
        self.trickling: set[str] = set()
        self.requests: list[str] = []
        self.changed = asyncio.Condition()
        self._running: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Remote]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield Remote("http", "127.0.0.1", server.sockets[0].getsockname()[1], token="t")
        finally:
            server.close()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def until(self, opened: int, closed: int) -> None:
        """Wait until so many connections were made, and so many of them have ended."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: (self.opened, self.closed) == (opened, closed)), 30)

    async def asked(self, path: str) -> None:
        """Wait until a request for `path` has come."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: path in self.requests), 30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        await self._count(1, 0)
        number = self.opened
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                for line in lines:
                    if line.startswith("content-length:"):
                        await reader.readexactly(int(line.partition(":")[2]))
                path = lines[0].split()[1]
                self.requests.append(path)
                await self._count(0, 0)
                if path in self.trickling:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    while not writer.is_closing():
                        writer.write(b" ")
                        await asyncio.sleep(0.02)
                elif path not in self.quiet:
                    body = json.dumps({"type": "session", "id": "ap-1", "connection": number}).encode() + b"\n"
                    stream = path == "/v1/sessions"
                    length = 10**6 if stream else len(body)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await self._count(0, 1)

    async def _count(self, opened: int, closed: int) -> None:
        async with self.changed:
            self.opened += opened
            self.closed += closed
            self.changed.notify_all()


def run(body: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 60))


async def ask(transport: KeptTransport) -> int:
    """The number of the connection over which a request went."""
    async with transport.open("GET", "/", None, 30) as reply:
        return int(json.loads(await reply.read())["connection"])


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def body() -> None:
        server = Server()
        async with server.running() as remote:
            transport = over_tcp(remote)
            assert [await ask(transport) for _ in range(3)] == [1, 1, 1]
            await transport.aclose()
            await server.until(1, 1)

    run(body())


def test_connections_are_there_before_they_are_needed() -> None:
    async def body() -> None:
        server = Server()
        async with server.running() as remote:
            transport = over_tcp(remote)
            transport.keep_ready(2)
            await server.until(2, 0)
            # Two at the same time, and each in its turn: none is forgotten.
            assert sorted(await asyncio.gather(ask(transport), ask(transport))) == [1, 2]
            assert sorted([await ask(transport), await ask(transport)]) == [1, 2]
            async with transport.open("POST", "/v1/sessions", None, 30):
                pass  # its answer is not read to the end: that connection serves nobody else
            await server.until(3, 1)
            await transport.aclose()
            await server.until(3, 3)

    run(body())


def test_one_that_is_being_made_when_all_ends_is_closed() -> None:
    async def body() -> None:
        server = Server()
        async with server.running() as remote:
            transport = over_tcp(remote)
            dial, made = transport._dial, asyncio.Event()

            async def slowly() -> object:
                connection = await dial()
                made.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
                return connection  # finished at the moment at which it was told to stop

            transport._dial = slowly  # type: ignore[assignment]
            transport.keep_ready(1)
            await made.wait()
            await transport.aclose()
            await server.until(1, 1)
            transport.keep_ready(2)
            with pytest.raises(errors.ConnectionError):
                await ask(transport)
            assert server.opened == 1

            made.clear()
            transport = over_tcp(remote)
            transport._dial = slowly  # type: ignore[assignment]
            asking = asyncio.ensure_future(ask(transport))
            await made.wait()
            asking.cancel()  # a command that ends while it connects
            await asyncio.wait([asking])
            await server.until(server.opened, server.opened)

    run(body())


def test_requests_under_way_end_with_the_connections() -> None:
    async def body() -> None:
        server = Server()
        server.quiet = {"/"}
        async with server.running() as remote:
            transport = over_tcp(remote)
            asking = asyncio.ensure_future(ask(transport))
            await server.asked("/")
            await transport.aclose()
            with pytest.raises(errors.ConnectionError, match="went away"):
                await asking

    run(body())


def test_all_that_a_session_says_at_its_end_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one that never comes to the end of an answer: not a new deadline for each piece."""
    monkeypatch.setattr(resuming, "GOODBYE_SECONDS", 0.3)
    monkeypatch.setattr(resuming, "SPEAK_SECONDS", 0.5)

    async def body() -> None:
        server = Server()
        server.quiet, server.trickling = {"/v1/sessions/ap-1/seen"}, {"/v1/sessions/ap-1/end"}
        async with server.running() as remote, Client("", remote=remote) as client:
            async with RemoteSession(client, {}):
                await server.asked("/v1/sessions/ap-1/seen")
            assert server.requests[-1] == "/v1/sessions/ap-1/end"
            await client.aclose()
            await server.until(server.opened, server.opened)

    run(body())


def test_a_large_body_may_take_longer_than_the_limit_of_silence() -> None:
    silence, size = 3.0, 16 * 2**20

    async def body() -> None:
        async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            left = size
            while left:
                left -= len(await reader.read(65536))
                await asyncio.sleep(0.02)  # the slow line
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(slowly, "127.0.0.1", 0)
        transport = over_tcp(Remote("http", "127.0.0.1", server.sockets[0].getsockname()[1], token="t"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with transport.open("PUT", "/", bytes(size), silence) as reply:
            assert await reply.read() == b"ok"
        assert loop.time() - began > silence
        await transport.aclose()
        server.close()

    run(body())
