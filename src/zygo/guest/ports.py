"""Which ports are listened to in this network namespace, and which processes there are: read from /proc, without connecting.

A connection made to find out whether a server is up would be the first thing that server sees.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

_LISTEN = "0A"


def listeners() -> dict[int, list[str]]:
    """Port -> the addresses to connect to, IPv4 first."""
    found: dict[int, list[str]] = {}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            with open(f"/proc/self/net/{name}") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == _LISTEN:
                address, _, port = columns[1].partition(":")
                found.setdefault(int(port, 16), []).append(_address(address, family))
    return found


def _address(text: str, family: int) -> str:
    """Where to connect for what /proc shows: any address means this machine."""
    # Each group of four bytes is in the machine's order.
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    address = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


def others() -> set[int]:
    """The processes that this one started, and theirs; as init of a pid namespace, all others."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{entry}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry)] = int(parent)
    own = os.getpid()
    if own == 1:
        return set(parents) - {own}
    found: set[int] = set()
    level = {own}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level} - found
        found |= level
    return found
