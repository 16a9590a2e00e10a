"""Steady load: keep-alive connections that ask again as soon as they are answered, and what each of them saw.

    with Steady(port, host, connections=32) as load:
        ...                                          # change what answers there
    load.answers, load.lost, load.went_back

The answer's body is a number that is larger for every later version.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.client import REQUEST_SECONDS

if TYPE_CHECKING:
    from types import TracebackType

LOST_LIMIT = 100
"""Lost requests after which the load ends by itself: what is measured is broken."""


@dataclass(frozen=True)
class Seen:
    """One answer: from which version, when its request was written (time.monotonic()), how long it took in seconds."""

    version: int
    began: float
    seconds: float


class Steady:
    """See the module. Its thread and connections live from entering to leaving.

    Attributes:
        answers: in the order in which they came.
        lost: one text for each request that was not answered with 200 and a number.
        went_back: how often a connection was answered by an older version than by the one before.
    """

    def __init__(self, port: int, host: str, *, connections: int) -> None:
        self.answers: list[Seen] = []
        self.lost: list[str] = []
        self.went_back = 0
        self._port = port
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._connections = connections
        self._stop = False
        self._thread = threading.Thread(target=self._main, name="steady load", daemon=True)

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._thread.join(2 * REQUEST_SECONDS)

    def _main(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._connection() for _ in range(self._connections)))

    async def _connection(self) -> None:
        """Ask until the end; on a new connection when the old one is gone. Versions are compared on one connection only."""
        while not self._stop and len(self.lost) < LOST_LIMIT:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self.lost.append(f"connect: {error}")
                continue
            try:
                await self._ask(reader, writer)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        newest, closed = 0, False
        while not self._stop and not closed:
            began = clock()
            writer.write(self._request)
            async with asyncio.timeout(REQUEST_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
            if not head.startswith(b"http/1.1 200 "):
                raise ValueError(f"{head[:40]!r} {body[:80]!r}")
            version = int(body)
            self.answers.append(Seen(version, began, clock() - began))
            self.went_back += version < newest
            newest, closed = version, b"connection: close" in head
