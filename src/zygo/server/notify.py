"""Tells a service manager how the server is: systemd's notification protocol, one datagram to $NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send `state`, such as `READY=1` or `STOPPING=1`; nothing without a service manager. Never fails, never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), address)


def managed() -> bool:
    """Whether a service manager started this server, and starts it again when it ends."""
    return bool(os.environ.get("NOTIFY_SOCKET"))
