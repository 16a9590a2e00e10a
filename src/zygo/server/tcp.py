"""The control API over TCP: a listener of its own, only when asked for, behind tokens, with TLS unless it is on loopback.

Behind a proxy that speaks TLS (Caddy) it listens on loopback without; a client's address is then the one that the proxy
says. It is never the gateway's listener, nor on its port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zygo.errors import ExecutionError

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.settings import Settings

log = logging.getLogger("zygo.control")

SILENT_SECONDS = 20
"""A client whose machine is gone does not close its connection: one that acknowledges nothing for so long is closed here."""

HEAD_SECONDS = 20.0
"""For a new connection to send a whole request's head; without one it is closed."""

CERTIFICATE_SECONDS = 30.0
"""How often the certificate's files are looked at: a file sends no event that can be relied on."""


class HeadInTime(HttpToolsProtocol):
    """uvicorn's protocol, with a limit on a connection that never asks anything."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._overdue)

    def _overdue(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)


def listen(settings: Settings, gateway_port: int) -> socket.socket | None:
    """A socket bound as the settings say, None when no listener is asked for. Raises ExecutionError."""
    host, port = settings.control_host, settings.control_port
    if not port:
        return None
    if bool(settings.control_cert) != bool(settings.control_key):
        raise ExecutionError("ZYGO_CONTROL_CERT and ZYGO_CONTROL_KEY belong together: one of them is not set.")
    if not settings.control_cert and not is_loopback(host):
        raise ExecutionError(
            f"The control API would listen on {host}:{port} without TLS, and tokens would travel in the clear. Set "
            "ZYGO_CONTROL_CERT and ZYGO_CONTROL_KEY, or ZYGO_CONTROL_HOST=127.0.0.1 behind a proxy that speaks TLS."
        )
    if port == gateway_port:
        raise ExecutionError(f"ZYGO_CONTROL_PORT={port} is the gateway's port. Give the control API another one.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit these.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_SECONDS // 2)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENT_SECONDS // 4)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ExecutionError(f"The control API cannot listen on {host}:{port}: {error.strerror or error}.") from None
    return sock


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Certificate:
    """A certificate's files as a TLS context, which follows them when they are renewed."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = (cert, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._look()
        try:
            self.context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise ExecutionError(f"The certificate {cert} with the key {key} cannot be used: {error}.") from None

    async def follow(self) -> None:
        """Load the files again whenever they have changed, for ever. A pair that does not fit is said and left out."""
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            if (now := self._look()) == self._seen:
                continue
            self._seen = now
            try:
                self.context.load_cert_chain(*self._files)
                log.info("the certificate %s was renewed", self._files[0])
            except (OSError, ssl.SSLError) as error:
                log.error("the new certificate %s cannot be used, the old one stays: %s", self._files[0], error)

    def _look(self) -> list[tuple[int, int]]:
        found = []
        for path in self._files:
            try:
                status = os.stat(path)
                found.append((status.st_mtime_ns, status.st_ino))
            except OSError:
                found.append((0, 0))
        return found
