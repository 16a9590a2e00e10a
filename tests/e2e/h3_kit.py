"""One request over HTTP/3."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration

if TYPE_CHECKING:
    from pathlib import Path

    from aioquic.quic.events import QuicEvent

SECONDS = 20.0


class _Client(QuicConnectionProtocol):
    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.http = H3Connection(self._quic)
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.done = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        for found in self.http.handle_event(event):
            self._take(found)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.headers.update(event.headers)
        elif isinstance(event, DataReceived):
            self.body += event.data
        if getattr(event, "stream_ended", False):
            self.done.set()

    async def get(self, host: str, path: str) -> tuple[int, bytes]:
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", host.encode()), (b":path", path.encode())]
        self.http.send_headers(stream, head, end_stream=True)
        self.transmit()
        await self.done.wait()
        return int(self.headers[b":status"]), self.body


def get(port: int, host: str, path: str, authority: Path) -> tuple[int, bytes]:
    """Status and body of `path` at 127.0.0.1:`port` under the name `host`, whose certificate `authority` has signed."""

    async def body() -> tuple[int, bytes]:
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, server_name=host, cafile=str(authority), verify_mode=ssl.CERT_REQUIRED
        )
        async with (
            asyncio.timeout(SECONDS),
            connect("127.0.0.1", port, configuration=configuration, create_protocol=_Client) as client,
        ):
            return await cast("_Client", client).get(f"{host}:{port}", path)

    return asyncio.run(body())
