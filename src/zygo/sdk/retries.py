"""Retries: how often an input that failed is tried again."""

from __future__ import annotations

from typing import Any

from zygo.errors import InvalidError
from zygo.model import RetryPolicy


class Retries:
    """For `@app.function(retries=...)`. The n-th repetition waits initial_delay * backoff_coefficient ** (n - 1) seconds.

    Arguments:
        max_retries: repetitions of one input after its first attempt, 0 to 10.
        backoff_coefficient: factor from one delay to the next, 1 to 10.
        initial_delay: seconds before the first repetition, 0 to 60.
        max_delay: seconds that a delay may have, 1 to 60.

    Raises InvalidError for values outside these bounds.
    """

    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        if isinstance(max_retries, bool) or not isinstance(max_retries, int):
            raise InvalidError(f"Retries: max_retries={max_retries!r} must be a whole number from 0 to 10.")
        self._policy = RetryPolicy(
            max_retries=int(_within("max_retries", max_retries, 0, 10)),
            backoff_coefficient=_within("backoff_coefficient", backoff_coefficient, 1, 10),
            initial_delay=_within("initial_delay", initial_delay, 0, 60),
            max_delay=_within("max_delay", max_delay, 1, 60),
        )

    def __repr__(self) -> str:
        policy = self._policy
        return (
            f"Retries(max_retries={policy.max_retries}, backoff_coefficient={policy.backoff_coefficient:g}, "
            f"initial_delay={policy.initial_delay:g}, max_delay={policy.max_delay:g})"
        )

    @property
    def policy(self) -> RetryPolicy:
        """The same as a record."""
        return self._policy


def read(owner: str, value: Any) -> RetryPolicy | None:
    """The policy that `retries=value` asks for: a number waits one second before each. Raises InvalidError."""
    if value is None or value == 0:
        return None
    if isinstance(value, Retries):
        return value.policy if value.policy.max_retries else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10:
        raise InvalidError(
            f"{owner}: retries={value!r} must be a whole number from 0 to 10, or zygo.Retries(max_retries=3)."
        )
    return RetryPolicy(max_retries=value)


def _within(name: str, value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise InvalidError(f"Retries: {name}={value!r} must be a number from {least:g} to {most:g}.")
    return float(value)
