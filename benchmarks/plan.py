"""How much is measured: the whole thing, or a look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Repetitions of each benchmark. Times in seconds."""

    starts: int = 200
    peer_starts: int = 20
    rounds: int = 5
    load_seconds: float = 4.0
    saves: int = 40
    bursts: int = 8
    burst_size: int = 64
    calls: int = 1000
    mapped: int = 20_000
    idle_containers: int = 16
    idle_seconds: float = 20.0
    deploys: int = 50
    rollbacks: int = 5
    rollout_requests: int = 100_000
    application_starts: int = 9
    only: tuple[str, ...] = ()
    """Which applications; all without any."""


FULL = Plan()
QUICK = Plan(
    starts=20,
    peer_starts=5,
    rounds=2,
    load_seconds=1.0,
    saves=6,
    bursts=2,
    burst_size=16,
    calls=100,
    mapped=2000,
    idle_containers=4,
    idle_seconds=3.0,
    deploys=5,
    rollbacks=1,
    rollout_requests=3_000,
    application_starts=2,
)
