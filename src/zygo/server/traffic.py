"""Between the gateway's waiting line and the scheduler's pools: neither imports the other, this knows both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zygo.gateway.container import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.base import Container
    from zygo.errors import Error
    from zygo.gateway.admission import Admission
    from zygo.model import ScalePolicy

EXPLAINED = 200
"""How many ended containers' reasons are remembered, for the requests that they took along."""


class FunctionTraffic:
    """The requests of one pool: those that its containers serve, and while it is the active one, those that wait.

    Implements scheduler.pool.Traffic.
    """

    def __init__(self, admission: Admission, policy: ScalePolicy, poke: Callable[[], None]) -> None:
        self.admission = admission
        self.active = False
        self.on_used: Callable[[str], None] = lambda container: None
        """Called with a single-use container that has served its request."""
        self._policy = policy
        self._poke = poke
        self._containers: dict[str, Container] = {}
        self._backends: dict[str, Backend] = {}
        self._reasons: dict[str, str] = {}

    def activate(self) -> None:
        """New requests come here from now on; the containers of the revision before drain."""
        self.active = True
        self.admission.set_backends(self._backends.values())

    def deactivate(self) -> None:
        """New requests go elsewhere."""
        self.active = False

    def waiting(self) -> int:
        """See Traffic.waiting."""
        # While they are held for new code, no container of the old one must be started for them.
        return self.admission.waiting if self.active and not self.admission.held else 0

    def in_flight(self, container: str) -> int:
        """See Traffic.in_flight."""
        backend = self._backends.get(container)
        return backend.in_flight if backend is not None else 0

    def idle_since(self, container: str) -> float | None:
        """See Traffic.idle_since."""
        backend = self._backends.get(container)
        return backend.idle_since if backend is not None else None

    def last_active(self) -> float | None:
        """See Traffic.last_active."""
        return self.admission.last_active

    def add(self, container: Container, fork_seconds: float) -> None:
        """See Traffic.add."""
        backend = Backend(
            container.id,
            container.socket_path,
            self._policy.max_inputs,
            target_inputs=self._policy.target_inputs,
            started=time.monotonic(),
            fork_seconds=fork_seconds,
            single_use=self._policy.single_use,
        )
        if self._policy.single_use:
            backend.on_idle = lambda: self.on_used(container.id)
        self._containers[container.id] = container
        self._backends[container.id] = backend
        if self.active:
            self.admission.add(backend)

    def remove(self, container: str) -> None:
        """See Traffic.remove. Called for one that drains, and again when it is gone."""
        backend = self._backends.get(container)
        if backend is None:
            return
        self.admission.remove(backend)
        # A server of the user's does not know that an idle connection will carry nothing more, and would wait for its end.
        backend.close()
        ended = self._containers[container]
        if ended.exited.done():
            self._reasons[container] = ended.reason()
            while len(self._reasons) > EXPLAINED:
                del self._reasons[next(iter(self._reasons))]
            backend.gone.set()
            del self._backends[container], self._containers[container]
        else:
            backend.on_idle = self._poke

    def fail(self, error: Error) -> None:
        """See Traffic.fail."""
        if self.active:
            self.admission.fail(error)

    def explain(self, backend: Backend) -> str | None:
        """Why that container ended, for a caller who may know."""
        return self._reasons.get(backend.id)
