"""Where a request came from: the forwarded headers that an app may believe."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, the scheme and the host it used."""

    client: bytes
    proto: bytes
    host: bytes


class TrustedProxies:
    """The networks whose forwarded headers are believed; none unless configured."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """`networks` are addresses or CIDR networks. Raises ValueError for anything else."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(n, strict=False) for n in networks)

    def trusts(self, address: str) -> bool:
        """Whether `address` is such a proxy."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def origin(self, peer: str, host: bytes, said: Mapping[bytes, bytes]) -> Origin:
        """What a trusted `peer` says, read from the right end: the last address in X-Forwarded-For that is not a
        trusted proxy's own is the client; what stands left of it anyone may have written."""
        client = peer
        for entry in reversed(said.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
            candidate = entry.strip()
            if not _is_address(candidate):
                break
            client = candidate
            if not self.trusts(candidate):
                break
        proto = said.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower()
        forwarded_host = said.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip()
        return Origin(client.encode(), proto if proto in (b"http", b"https") else b"http", forwarded_host or host)


def peer_address(peername: object) -> str:
    """The address of a socket's peer; an IPv4 one that came in through IPv6 in its IPv4 form."""
    if not isinstance(peername, tuple) or not peername:
        return "unknown"
    return str(peername[0]).removeprefix("::ffff:")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
