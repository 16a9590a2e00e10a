"""The gateway's view of one container: where it listens, how much it takes, and which connections to it are idle."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class IdleConnection(Protocol):
    """An open connection to a container that carries no request."""

    def close(self) -> None: ...


class Backend:
    """One container of a revision, as the gateway sees it.

    The pool makes it, gives it to `Admission.add` once the container is ready, and takes it away with
    `Admission.remove`; from then on nothing new goes there and `drained()` tells when the last request ended. `close()`
    ends its idle connections. `started` is the `time.monotonic()` at which it became ready, `fork_seconds` what the
    fork took until then; both only serve to tell a request where its time went. `target_inputs` is how many requests
    at once the balancer aims at, `max_inputs` how many it may reach; one that is `single_use` takes one in its life.
    `on_idle`, when set, is called as the last request in flight ends. Only the gateway and Admission change
    `in_flight`, `served` and `idle`. `gone` is set once it has ended and it is known why.
    """

    __slots__ = (
        "_drain_waiters",
        "_ended",
        "accepting",
        "fork_seconds",
        "gone",
        "id",
        "idle",
        "in_flight",
        "max_inputs",
        "on_idle",
        "path",
        "served",
        "single_use",
        "started",
        "target_inputs",
    )

    def __init__(
        self,
        id: str,
        path: str,
        max_inputs: int = 1,
        *,
        target_inputs: int | None = None,
        started: float | None = None,
        fork_seconds: float = 0.0,
        single_use: bool = False,
    ) -> None:
        self.id = id
        self.gone = asyncio.Event()
        self.path = path
        self.max_inputs = max_inputs
        self.target_inputs = min(target_inputs or max_inputs, max_inputs)
        self.started = started
        self.fork_seconds = fork_seconds
        self.single_use = single_use
        self.accepting = True
        self.in_flight = 0
        self.served = 0
        self.idle: list[IdleConnection] = []
        self.on_idle: Callable[[], None] | None = None
        self._ended = time.monotonic()
        self._drain_waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.in_flight}/{self.max_inputs}{'' if self.accepting else ' closed'}>"

    @property
    def idle_since(self) -> float | None:
        """`time.monotonic()` at which the last request ended, or it became ready; None while one is in flight."""
        return None if self.in_flight else self._ended

    async def drained(self) -> None:
        """Wait until no request is in flight. The caller bounds the wait; it has stopped `accepting` before."""
        if self.in_flight:
            future = asyncio.get_running_loop().create_future()
            self._drain_waiters.append(future)
            await future

    def finished_one(self) -> None:
        """A request ended here. Called by Admission."""
        self.in_flight -= 1
        self.served += 1
        if self.in_flight:
            return
        self._ended = time.monotonic()
        if self.on_idle is not None:
            self.on_idle()
        if self._drain_waiters:
            waiters, self._drain_waiters = self._drain_waiters, []
            for future in waiters:
                if not future.done():
                    future.set_result(None)

    def close(self) -> None:
        """Take nothing more and end the idle connections; those in use end with their requests. May be called twice."""
        self.accepting = False
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
