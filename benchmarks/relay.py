"""The least that any proxy costs: bytes from a client to a server and back, nothing read, nothing decided.

`python -m benchmarks.relay PORT TARGET_PORT` on 127.0.0.1. Its added latency is the price of one more process on this
machine at this moment; what the gateway adds beyond it is the gateway's own work.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One of the two connections; what comes before the other one stands is kept."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def join(self, other: _End) -> None:
        """Pass on to `other` from now on."""
        self.other = other
        for data in self._early:
            self.data_received(data)
        self._early.clear()


class _Client(_End):
    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="connect")

    async def _connect(self) -> None:
        _, server = await asyncio.get_running_loop().create_connection(_End, "127.0.0.1", self._target)
        server.join(self)
        self.join(server)


async def main(port: int, target: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: _Client(target), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
