"""How many containers a function should have: a pure rule of numbers and time.

    need    = ceil((waiting + in flight) / target_inputs)
    kept    = containers that were busy within the scaledown window
    want    = clamp(max(need + buffer while active, kept), min_containers, max_containers)

Up at once, since a start costs milliseconds; down one by one as each container's window ends, the longest idle first. A
worked example: target_inputs=1, scaledown_window=60, three requests at t=0 give three containers; all end at t=1; at t=60.9 three
are kept, at t=61 none, unless min_containers or another request says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zygo.model import ScalePolicy


@dataclass(frozen=True)
class Member:
    """One container as the rule sees it. `idle_since` in seconds of the caller's clock; None while it is busy or starting."""

    id: str
    idle_since: float | None


@dataclass(frozen=True)
class ScaleDecision:
    """Start `start` containers, stop those in `stop`; `check_at` is when time alone may change the answer (None: never)."""

    want: int
    start: int
    stop: tuple[str, ...]
    check_at: float | None
    reason: str


def decide(
    policy: ScalePolicy,
    members: Sequence[Member],
    *,
    waiting: int,
    in_flight: int,
    last_active: float | None,
    now: float,
) -> ScaleDecision:
    """The decision at time `now` for `members`, every container that is starting or running and not draining.

    Arguments:
        waiting, in_flight: requests held for this function, and being served by its containers.
        last_active: when a request last arrived or ended; None when there was none yet.
    """
    window = policy.scaledown_window
    need = math.ceil((waiting + in_flight) / max(1, policy.target_inputs))
    active = need > 0 or (last_active is not None and now - last_active < window)
    wanted = need + (policy.buffer_containers if active else 0)
    ends = {m.id: m.idle_since + window for m in members if m.idle_since is not None}
    kept = sum(1 for m in members if m.idle_since is None or now < ends[m.id])
    floor = policy.min_containers
    ceiling = policy.max_containers if policy.max_containers is not None else max(wanted, kept, floor)
    want = min(max(wanted, kept, floor), max(ceiling, floor))
    surplus = len(members) - want
    idle = sorted((m for m in members if m.idle_since is not None), key=lambda m: m.idle_since or 0.0)
    stop = tuple(m.id for m in idle[: max(0, surplus)])
    # A busy container can be surplus one window from now at the earliest: looking then finds its exact end in time.
    future = [end for end in ends.values() if end > now] + [now + window for m in members if m.idle_since is None]
    if active and policy.buffer_containers and last_active is not None and last_active + window > now:
        future.append(last_active + window)
    return ScaleDecision(
        want=want,
        start=max(0, want - len(members)),
        stop=stop,
        check_at=min(future) if future and len(members) > floor else None,
        reason=f"{waiting} waiting, {in_flight} in flight at {policy.target_inputs} each, {kept} kept, floor {floor}",
    )


def during_switch(policy: ScalePolicy, others: int, least: int = 1) -> ScalePolicy:
    """`policy` for a revision while `others` containers are those of the same function's other revisions.

    One container more than max_containers is allowed meanwhile, so that there is always one of the new revision: with
    max_containers=1 and one leaving, one may start; with 4 and three leaving, two. `least` is 0 for the active revision while a
    newer one is proven: with max_containers=1, one leaving and one to be proven, it has none, and its requests wait.
    """
    if policy.max_containers is None or not others:
        return policy
    ceiling = max(least, policy.max_containers + 1 - others)
    ceiling = min(ceiling, policy.max_containers)
    return replace(policy, max_containers=ceiling, min_containers=min(policy.min_containers, ceiling))
