"""Loopback ports of web functions: each has its own, the same one as long as nobody else takes it.

Browsers and curl resolve `*.localhost`; the C library of a bare Debian does not, and then a function's own port is the
address that works with every client on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = 20000, 29999
"""Below the kernel's range for outgoing connections (32768 to 60999), above what services use."""


class PortBook:
    """Remembers which name had which port, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            known = json.loads(path.read_text())
            self._ports = {str(name): int(port) for name, port in known.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._ports = {}

    def candidates(self, name: str) -> list[int]:
        """Ports to try for `name`, best first: the one it had, then from a hash on, none that is another's.

        The hash is of the book's path too: two servers on a machine, with an app of one name each, would begin at the same
        port, and whichever came back first after a restart would have the other's.
        """
        others = {port for owner, port in self._ports.items() if owner != name}
        digest = hashlib.sha256(f"{self._path}\0{name}".encode()).digest()
        start = FIRST + int.from_bytes(digest[:4], "big") % (LAST - FIRST + 1)
        span = [FIRST + (start - FIRST + step) % (LAST - FIRST + 1) for step in range(100)]
        had = [self._ports[name]] if name in self._ports else []
        return had + [port for port in span if port not in others and port not in had]

    def has(self, name: str) -> bool:
        """Whether `name` had a port before."""
        return name in self._ports

    def remember(self, name: str, port: int) -> None:
        """`name` has `port` now."""
        if self._ports.get(name) == port:
            return
        self._ports[name] = port
        staged = self._path.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(self._ports, indent=1, sort_keys=True))
        staged.replace(self._path)


def resolves_localhost_names() -> bool:
    """Whether this machine's C library knows that `anything.localhost` is this machine (RFC 6761, section 6.3)."""
    try:
        found = socket.getaddrinfo("zygo-check.localhost", 80, proto=socket.IPPROTO_TCP)
    except OSError:
        return False
    return any(str(address[4][0]) in ("127.0.0.1", "::1") for address in found)
