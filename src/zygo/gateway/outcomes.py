"""What becomes of an attempt at an input: its result, or another attempt later. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from zygo.errors import ContainerError, Error, FunctionTimeoutError, RemoteError, to_json
from zygo.model import CallState, retry_delay
from zygo.sdk import frames
from zygo.store.calls import SAID, Outcome, Payload

if TYPE_CHECKING:
    from zygo.model import RetryPolicy
    from zygo.store.calls import PendingInput

MAX_LOSSES = 10
"""Containers that one input may take along. What kills its container every time would kill one after the other for ever."""

FIRST_DELAY, MAX_DELAY = 0.05, 30.0
"""Seconds until an input whose container was lost is tried again, doubled with each further loss."""

_STATES = {frames.VALUE: CallState.SUCCEEDED, frames.TIMEOUT: CallState.TIMED_OUT}


def answered(given: PendingInput, kind: bytes, payload: Payload, policy: RetryPolicy | None, now: float) -> Outcome:
    """The container answered with a frame of this kind."""
    if kind in (frames.FAILURE, frames.TIMEOUT):
        again = _repeated(given, policy, now)
        if again is not None:
            return again
    state = _STATES.get(kind, CallState.FAILED)
    return Outcome(given.position, given.call_id, state, kind.decode("latin-1"), payload)


def timed_out(given: PendingInput, text: str, policy: RetryPolicy | None, now: float) -> Outcome:
    """The container did not answer in time, nor end its code."""
    again = _repeated(given, policy, now)
    return again or _said(given, CallState.TIMED_OUT, FunctionTimeoutError(text))


def refused(given: PendingInput, error: Error) -> Outcome:
    """It cannot be done, now or ever."""
    return _said(given, CallState.FAILED, error)


def lost(given: PendingInput, function: str, reason: str, now: float, delay: float = 0.0) -> Outcome:
    """The container died, or none could be started; `delay`: seconds that the next attempt waits at least."""
    losses = given.losses + 1
    if losses < MAX_LOSSES:
        due = now + max(delay, min(FIRST_DELAY * 2 ** (losses - 1), MAX_DELAY))
        return Outcome(
            given.position,
            given.call_id,
            CallState.PENDING,
            failures=given.failures,
            losses=losses,
            due_at=due,
        )
    text = (
        f"{function} was tried {losses} times and its container was lost each time, so it is not tried again: {reason}."
    )
    return _said(given, CallState.FAILED, ContainerError(text))


def cancelled(reason: str) -> bytes:
    """The result of an input that was cancelled."""
    return json.dumps(to_json(RemoteError(f"The call was cancelled: {reason}."))).encode()


def _repeated(given: PendingInput, policy: RetryPolicy | None, now: float) -> Outcome | None:
    failures = given.failures + 1
    delay = retry_delay(policy, failures)
    if delay is None:
        return None
    return Outcome(
        given.position,
        given.call_id,
        CallState.PENDING,
        failures=failures,
        losses=given.losses,
        due_at=now + delay,
    )


def _said(given: PendingInput, state: CallState, error: Error) -> Outcome:
    return Outcome(given.position, given.call_id, state, SAID, Payload(json.dumps(to_json(error)).encode()))
