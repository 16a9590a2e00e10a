"""This machine's own addresses on the network. Host side only."""

from __future__ import annotations

import contextlib
import ipaddress
import socket


def public_addresses() -> list[str]:
    """Those that can be reached from outside, IPv4 first. An address that a router translates to this machine is unknown."""
    import psutil

    found = set()
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(ValueError):
                    parsed = ipaddress.ip_address(address.address.partition("%")[0])
                    if parsed.is_global:
                        found.add(parsed)
    return [str(address) for address in sorted(found, key=lambda a: (a.version, int(a)))]
