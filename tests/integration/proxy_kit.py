"""What the gateway's tests stand on: a real gateway, uvicorn and scripted servers on unix sockets, raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop

from zygo.gateway.admission import Admission
from zygo.gateway.container import Backend
from zygo.gateway.proxy import Gateway, Limits
from zygo.gateway.routes import Endpoint, RequestRecord, Routes

HOST = "hello.localhost"
PATIENCE = 10.0
T = TypeVar("T")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run one test on a fresh uvloop; a task that was left behind fails it."""

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        failures: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: failures.append(context))
        result = await main
        assert not failures, failures
        return result

    return uvloop.run(guarded())


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a state that announces itself to nobody."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert condition(), what


@dataclass
class Rig:
    """A gateway with one endpoint at HOST."""

    gateway: Gateway
    port: int
    admission: Admission
    endpoint: Endpoint
    records: list[RequestRecord] = field(default_factory=list)
    died: list[Backend] = field(default_factory=list)
    timed_out: list[Backend] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**24))

    async def ask(self, raw: bytes) -> bytes:
        """Send `raw`, read until the gateway closes."""
        client = await self.connect()
        async with client:
            client.send(raw)
            return await client.rest()

    async def record(self, count: int = 1) -> RequestRecord:
        """The `count`th record."""
        await until(lambda: len(self.records) >= count, "a record")
        return self.records[count - 1]


@dataclass
class Client:
    """A raw client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the other side closes; what came before a reset."""
        got = bytearray()
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    got += data
        return bytes(got)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(size)

    async def upto(self, mark: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(mark)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """One answer with a known length, or chunked."""
        head = await self.upto(b"\r\n\r\n")
        status, headers = parse_head(head)
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await self.upto(b"\r\n"), 16):
                body += (await self.exactly(size + 2))[:-2]
            await self.upto(b"\r\n")
            return status, headers, body
        return status, headers, await self.exactly(int(headers.get(b"content-length", b"0")))


def parse_head(raw: bytes) -> tuple[int, dict[bytes, bytes]]:
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    return int(lines[0].split()[1]), headers


def get(path: bytes = b"/", *extra: bytes, method: bytes = b"GET", host: str = HOST) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + host.encode(), *extra]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def last(path: bytes = b"/", *extra: bytes, method: bytes = b"GET") -> bytes:
    """A request after which the connection ends."""
    return get(path, b"Connection: close", *extra, method=method)


@contextlib.asynccontextmanager
async def rig(
    *paths: str,
    max_inputs: int = 100,
    max_waiting: int = 100,
    limits: Limits | None = None,
    max_body: int = 2**30,
    trusted_proxies: tuple[str, ...] = (),
    response_wait: float = 0.0,
    tunnels_end: bool = False,
    **options: Any,
) -> AsyncIterator[Rig]:
    """A gateway in front of containers on `paths`. `options` go to the Endpoint. Nothing may be left in flight."""
    loop = asyncio.get_running_loop()
    waits: list[int] = []
    admission = Admission(max_waiting=max_waiting, clock=loop, on_wait=lambda: waits.append(admission.waiting))
    for number, path in enumerate(paths):
        admission.add(Backend(f"c-{number}", path, max_inputs))
    records: list[RequestRecord] = []
    died: list[Backend] = []
    timed_out: list[Backend] = []
    given = {"log": records.append, "on_died": died.append, "on_timeout": timed_out.append, **options}
    endpoint = Endpoint("hello", "test", f"http://{HOST}/", admission, **given)
    gateway = Gateway(
        routes=Routes({HOST: endpoint}, {}),
        limits=limits,
        max_body=max_body,
        trusted_proxies=trusted_proxies,
        response_wait=response_wait,
        tunnels_end=tunnels_end,
    )
    port = await gateway.start("127.0.0.1", 0)
    try:
        yield Rig(gateway, port, admission, endpoint, records, died, timed_out, waits)
        await until(lambda: not admission.in_flight or gateway.settling != {}, "nothing in flight")
    finally:
        await gateway.close()
        for backend in admission.backends:
            backend.close()
    assert admission.in_flight == 0
    assert admission.waiting == 0


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """A container that does to every connection what `script` says. Yields the path of its socket."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "c.sock")
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await script(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_unix_server(serve, path, limit=2**24)
        try:
            yield path
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await until(lambda: not tasks, "scripts ended")


def replies(*answers: bytes) -> Script:
    """A script: to each request head (with a body of its Content-Length) the next of `answers`, then the end."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
        await reader.read(1)

    return script


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    _, headers = parse_head(b"X 0 X\r\n" + head.partition(b"\r\n")[2])
    return head + await reader.readexactly(int(headers.get(b"content-length", b"0")))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def uvicorn_at(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> AsyncIterator[str]:
    """A real uvicorn for `app`, as containers run it. Yields the path of its socket."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "u.sock")
        config = uvicorn.Config(
            app,
            uds=path,
            http="httptools",
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=3600,
            proxy_headers=True,
            forwarded_allow_ips="*",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        task = asyncio.get_running_loop().create_task(server.serve())
        await until(lambda: server.started or task.done(), "uvicorn started")
        try:
            yield path
        finally:
            server.should_exit = True
            await task
