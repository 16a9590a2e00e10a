"""How often an input is tried again, and when."""

from __future__ import annotations

from typing import Any

import pytest

from zygo.errors import InvalidError
from zygo.model import RetryPolicy, retry_delay
from zygo.sdk.retries import Retries


def delays(policy: RetryPolicy) -> list[float]:
    found: list[float] = []
    while (delay := retry_delay(policy, len(found) + 1)) is not None:
        found.append(delay)
    return found


def test_a_number_waits_one_second_each_time() -> None:
    assert delays(RetryPolicy(3)) == [1.0, 1.0, 1.0]


def test_delays_grow_up_to_the_longest() -> None:
    assert delays(Retries(max_retries=5, initial_delay=2.0, max_delay=10.0).policy) == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_no_policy_is_no_repetition() -> None:
    assert retry_delay(None, 1) is None
    assert retry_delay(RetryPolicy(0), 1) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", 11),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("backoff_coefficient", 0.5),
        ("initial_delay", 61),
        ("max_delay", 0.5),
        ("max_delay", "60"),
    ],
)
def test_values_out_of_bounds(name: str, value: Any) -> None:
    with pytest.raises(InvalidError, match=f"{name}="):
        Retries(**{"max_retries": 1, name: value})
