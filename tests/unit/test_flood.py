"""The allowance: a burst, then a rate, in steps of a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zygo.runtime.flood import Allowance


def test_a_burst_is_granted_and_then_nothing_until_a_second_has_passed() -> None:
    allowance = Allowance(rate=10, burst=25)
    assert allowance.take(20, 100.0) == 20
    assert allowance.take(20, 100.1) == 5
    assert allowance.take(1, 100.9) == 0
    assert allowance.take(20, 101.0) == 10
    assert allowance.take(1, 101.5) == 0
    assert allowance.take(99, 200.0) == 25, "never more than the burst"


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 5)), max_size=60))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[int, float]]) -> None:
    allowance, now, granted = Allowance(rate=100, burst=150), 0.0, 0
    for wanted, pause in steps:
        now += pause
        got = allowance.take(wanted, now)
        assert 0 <= got <= wanted
        granted += got
    assert granted <= 150 + 100 * now
