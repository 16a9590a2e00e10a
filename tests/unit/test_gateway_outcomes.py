"""What becomes of an attempt at a spawned input: numbers in, an outcome out."""

from __future__ import annotations

import json

import pytest

from zygo.errors import ContainerError, FunctionTimeoutError, RemoteError, from_json
from zygo.gateway import outcomes
from zygo.model import CallState, RetryPolicy
from zygo.sdk import frames
from zygo.store.calls import SAID, Payload, PendingInput

NOW = 1000.0
TWICE = RetryPolicy(2, backoff_coefficient=3.0, initial_delay=2.0)


def given(failures: int = 0, losses: int = 0) -> PendingInput:
    return PendingInput(7, "fc-1", 0, failures, losses, "3.11", Payload(b"x"))


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (frames.VALUE, CallState.SUCCEEDED),
        (frames.FAILURE, CallState.FAILED),
        (frames.TIMEOUT, CallState.TIMED_OUT),
        (frames.FATAL, CallState.FAILED),
    ],
)
def test_a_frame_is_the_result(kind: bytes, state: CallState) -> None:
    outcome = outcomes.answered(given(), kind, Payload(b"r"), None, NOW)
    assert (outcome.state, outcome.kind, outcome.payload) == (state, kind.decode(), Payload(b"r"))


def test_failures_are_repeated_as_the_policy_says() -> None:
    for kind in (frames.FAILURE, frames.TIMEOUT):
        first = outcomes.answered(given(losses=4), kind, Payload(b""), TWICE, NOW)
        assert (first.state, first.failures, first.losses, first.due_at) == (CallState.PENDING, 1, 4, NOW + 2)
        second = outcomes.answered(given(1), kind, Payload(b""), TWICE, NOW)
        assert (second.failures, second.due_at) == (2, NOW + 6)
        assert outcomes.answered(given(2), kind, Payload(b""), TWICE, NOW).state is not CallState.PENDING


def test_what_cannot_succeed_is_not_repeated() -> None:
    assert outcomes.answered(given(), frames.FATAL, Payload(b""), TWICE, NOW).state is CallState.FAILED
    assert outcomes.answered(given(), frames.VALUE, Payload(b""), TWICE, NOW).state is CallState.SUCCEEDED


def test_a_lost_container_is_no_failure_but_not_for_ever() -> None:
    delays = []
    losses = 0
    while (outcome := outcomes.lost(given(1, losses), "f", "killed", NOW)).state is CallState.PENDING:
        losses = outcome.losses
        assert outcome.failures == 1
        delays.append(outcome.due_at - NOW)
    assert losses == outcomes.MAX_LOSSES - 1
    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(outcomes.FIRST_DELAY)
    assert max(delays) <= outcomes.MAX_DELAY
    assert (outcome.state, outcome.kind) == (CallState.FAILED, SAID)
    error = from_json(json.loads(outcome.payload.data or b""))
    assert isinstance(error, ContainerError)
    assert "f was tried 10 times" in str(error)
    assert "killed" in str(error)


def test_the_delay_of_a_function_that_cannot_start() -> None:
    assert outcomes.lost(given(), "f", "no", NOW, 5.0).due_at == NOW + 5


def test_the_time_that_a_container_did_not_keep() -> None:
    assert outcomes.timed_out(given(), "late", TWICE, NOW).state is CallState.PENDING
    outcome = outcomes.timed_out(given(), "late", None, NOW)
    assert outcome.state is CallState.TIMED_OUT
    assert isinstance(from_json(json.loads(outcome.payload.data or b"")), FunctionTimeoutError)


def test_what_a_cancelled_call_says() -> None:
    error = from_json(json.loads(outcomes.cancelled("its app was stopped")))
    assert isinstance(error, RemoteError)
    assert str(error) == "The call was cancelled: its app was stopped."
