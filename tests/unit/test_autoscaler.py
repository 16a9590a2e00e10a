"""The rule alone: numbers and time in, a decision out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zygo.model import ScalePolicy
from zygo.scheduler.autoscaler import Member, ScaleDecision, decide, during_switch

NOW = 1000.0


def at(
    policy: ScalePolicy,
    members: list[Member] | None = None,
    *,
    waiting: int = 0,
    in_flight: int = 0,
    last_active: float | None = None,
    now: float = NOW,
) -> ScaleDecision:
    return decide(policy, members or [], waiting=waiting, in_flight=in_flight, last_active=last_active, now=now)


def idle(number: int, seconds: float) -> Member:
    return Member(f"c{number}", NOW - seconds)


def busy(number: int) -> Member:
    return Member(f"c{number}", None)


def test_nothing_asked_for_starts_nothing() -> None:
    decision = at(ScalePolicy())
    assert (decision.want, decision.start, decision.stop, decision.check_at) == (0, 0, (), None)


def test_one_container_per_waiting_request() -> None:
    assert at(ScalePolicy(), waiting=5).start == 5
    assert at(ScalePolicy(), [busy(1), busy(2)], waiting=3, in_flight=2).start == 3


def test_a_start_on_its_way_counts() -> None:
    assert at(ScalePolicy(), [busy(1)], waiting=1).start == 0


def test_target_inputs_share_a_container() -> None:
    policy = ScalePolicy(max_inputs=10, target_inputs=4)
    assert at(policy, waiting=4).want == 1
    assert at(policy, waiting=5).want == 2
    assert at(policy, [busy(1)], waiting=1, in_flight=7).want == 2


def test_max_containers_bounds_the_wish() -> None:
    decision = at(ScalePolicy(max_containers=2), [busy(1)], waiting=50, in_flight=1)
    assert (decision.want, decision.start) == (2, 1)


def test_min_containers_hold_without_traffic_and_for_ever() -> None:
    policy = ScalePolicy(min_containers=2, scaledown_window=10)
    assert at(policy).start == 2
    kept = at(policy, [idle(1, 1e6), idle(2, 1e6), idle(3, 20)], last_active=NOW - 1e6)
    assert kept.want == 2
    assert len(kept.stop) == 1


def test_buffer_containers_only_while_active() -> None:
    policy = ScalePolicy(buffer_containers=2, scaledown_window=60)
    assert at(policy).start == 0
    assert at(policy, waiting=1, last_active=NOW).start == 3
    after = at(policy, [idle(1, 61), idle(2, 70), idle(3, 80)], last_active=NOW - 61)
    assert set(after.stop) == {"c1", "c2", "c3"}


def test_buffer_is_kept_while_active_and_looked_at_when_the_activity_ends() -> None:
    policy = ScalePolicy(buffer_containers=1, scaledown_window=60)
    decision = at(policy, [idle(1, 500)], last_active=NOW - 10)
    assert decision.stop == ()
    assert decision.check_at == NOW + 50


def test_the_same_container_within_the_window_and_none_after_it() -> None:
    policy = ScalePolicy(scaledown_window=60)
    within = at(policy, [idle(1, 59.9)], last_active=NOW - 59.9)
    assert within.stop == ()
    assert within.check_at is not None
    assert NOW < within.check_at <= NOW + 0.2
    assert at(policy, [idle(1, 60)], last_active=NOW - 60).stop == ("c1",)


def test_the_longest_idle_goes_first_and_the_busy_stay() -> None:
    policy = ScalePolicy(scaledown_window=60)
    decision = at(policy, [idle(1, 10), busy(2), idle(3, 100), idle(4, 61)], in_flight=1, last_active=NOW)
    assert decision.stop == ("c3", "c4")


def test_a_busy_container_is_looked_at_one_window_later() -> None:
    assert at(ScalePolicy(scaledown_window=60), [busy(1)], in_flight=1, last_active=NOW).check_at == NOW + 60


def test_lowering_max_containers_does_not_stop_what_is_busy() -> None:
    decision = at(ScalePolicy(max_containers=1), [busy(1), busy(2)], in_flight=2, last_active=NOW)
    assert (decision.start, decision.stop) == (0, ())


_members = st.lists(st.one_of(st.none(), st.floats(0, 500)), max_size=12)
_policies = st.builds(
    ScalePolicy,
    min_containers=st.integers(0, 4),
    max_containers=st.one_of(st.none(), st.integers(4, 8)),
    buffer_containers=st.integers(0, 3),
    scaledown_window=st.floats(1, 300),
    target_inputs=st.integers(1, 5),
)


@given(_policies, _members, st.integers(0, 40), st.integers(0, 40), st.one_of(st.none(), st.floats(0, 500)))
def test_whatever_the_numbers(
    policy: ScalePolicy, ages: list[float | None], waiting: int, in_flight: int, active: float | None
) -> None:
    members = [Member(f"c{i}", None if age is None else NOW - age) for i, age in enumerate(ages)]
    decision = at(policy, members, waiting=waiting, in_flight=in_flight, last_active=active and NOW - active)
    stoppable = {m.id for m in members if m.idle_since is not None}
    assert set(decision.stop) <= stoppable
    assert not (decision.start and decision.stop)
    left = len(members) - len(decision.stop) + decision.start
    assert left >= policy.min_containers
    if policy.max_containers is not None and decision.start:
        assert left <= policy.max_containers
    if waiting + in_flight and policy.max_containers is None:
        assert left * policy.target_inputs >= waiting + in_flight
    assert decision.check_at is None or decision.check_at > NOW


@given(_policies, st.integers(0, 20))
def test_during_a_switch_there_is_one_container_more_at_most_and_always_one_of_the_new_revision(
    policy: ScalePolicy, leaving: int
) -> None:
    shrunk = during_switch(policy, leaving)
    if policy.max_containers is None or not leaving:
        assert shrunk == policy
        return
    assert shrunk.max_containers is not None
    assert shrunk.max_containers >= 1
    assert shrunk.max_containers + leaving <= max(policy.max_containers + 1, leaving + 1)
    assert shrunk.max_containers <= policy.max_containers
    assert shrunk.min_containers <= shrunk.max_containers
