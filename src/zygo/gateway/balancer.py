"""Which container takes the next request: a pure choice over numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class Load(Protocol):
    """What the choice looks at."""

    accepting: bool
    in_flight: int
    target_inputs: int
    max_inputs: int


L = TypeVar("L", bound=Load)


def pick(backends: Iterable[L]) -> L | None:
    """The container for one more request, None when none has room.

    The fullest one below its target, so that surplus containers fall idle and can go; when all are at their target, the
    least loaded one below its limit. The earlier one wins a tie, which keeps the later ones idle.
    """
    best: L | None = None
    over: L | None = None
    for backend in backends:
        load = backend.in_flight
        if load >= backend.max_inputs or not backend.accepting:
            continue
        if load < backend.target_inputs:
            if load + 1 == backend.target_inputs:
                return backend
            if best is None or load > best.in_flight:
                best = backend
        elif over is None or load < over.in_flight:
            over = backend
    return best if best is not None else over
