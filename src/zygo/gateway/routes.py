"""Which endpoint a request is for: an immutable table, swapped whole; and the record that each request leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from zygo.model import RequestTiming

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zygo.gateway.admission import Admission
    from zygo.gateway.container import Backend
    from zygo.gateway.proxy_auth import Tokens


@dataclass(slots=True)
class RequestRecord:
    """One finished request, for the log. Times are in seconds; `path` is without the query, which may hold secrets.

    `status` is what the client got or was to get; 499 when it left before that; 101 for a tunnel. `queue` is the wait
    for a slot less the fork it waited for, `first` from the hand-over to the head of the answer, `total` from the
    request's head to the end of the answer. `error` says for the developer what went wrong, None when nothing did.
    """

    function: str
    app: str
    method: str
    path: str
    status: int
    start: str
    queue: float
    fork: float
    first: float
    total: float
    request_id: str
    container: str
    client: str
    error: str | None = None

    @property
    def timing(self) -> RequestTiming:
        """The times as the model's record."""
        return RequestTiming(self.start, self.queue, self.fork, self.first, self.total)


def _ignore(_: object) -> None:
    pass


def _unexplained(_: Backend) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One web function at the gateway.

    `timeout` bounds a request from its hand-over to the end of its answer, `queue_timeout` its wait for a slot, both in
    seconds. `debug` (under serve) puts `explain` (the traceback or the exit reason, when one is known) into 502 and 504
    bodies and Server-Timing into answers. `log` gets every request's record. `on_timeout` gets a container whose
    request ran out of time, before its slot is released: who wants no further request there removes it in the call.
    `on_died` gets one that refused or dropped a connection; it may live, and is left alone for SUSPECT_SECONDS.

    `method` is a header line that tells a container with several methods which of them is meant. Behind a `foreign` one
    stands a server that is not ours, which may close kept connections as it likes. `select` gives the endpoint that a
    request's target is for, when there are several behind one hostname; `tokens` are asked before anything else.
    """

    function: str
    app: str
    url: str
    admission: Admission
    timeout: float = 300.0
    queue_timeout: float = 300.0
    debug: bool = False
    log: Callable[[RequestRecord], None] = _ignore
    on_timeout: Callable[[Backend], None] = _ignore
    on_died: Callable[[Backend], None] = _ignore
    explain: Callable[[Backend], str | None] = _unexplained
    max_body: int | None = None
    method: bytes = b""
    foreign: bool = False
    select: Callable[[bytes], Endpoint] | None = None
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """The table: hostnames (lower-case, without port), the functions' own loopback ports, and what follows `*.` in names
    that stand for every name right below one."""

    hosts: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    ports: Mapping[int, Endpoint] = field(default_factory=lambda: MappingProxyType({}))
    wildcards: Mapping[str, Endpoint] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, host: str, port: int) -> Endpoint | None:
        """The endpoint of a request that came in on `port` for `host`. A port of its own wins over any hostname, an
        exact name over a wildcard, which stands for one label."""
        found = self.ports.get(port) or self.hosts.get(host)
        return self.wildcards.get(host.partition(".")[2]) if found is None and self.wildcards else found

    def serves(self, host: str) -> bool:
        """Whether a request for `host` has an endpoint, whichever port it comes in on."""
        return self.find(host, 0) is not None
