"""How long an outage is waited for, in numbers."""

from __future__ import annotations

from fake_engine import ManualClock
from zygo.store.outage import Outage


def test_everybody_waits_until_its_patience_is_over_and_nobody_after_that() -> None:
    clock = ManualClock()
    outage = Outage(15.0, clock)
    assert outage.may_wait(clock.now + 15.0)
    outage.found()
    clock.now += 10.0
    outage.found()  # again: it counts from the first time
    assert outage.may_wait(clock.now + 15.0), "a command that comes now has five seconds"
    clock.now += 5.0
    assert not outage.may_wait(clock.now + 15.0)
    assert outage.told("It cannot be reached.") == (
        "It cannot be reached. It has been away for 15 s, and is waited for 15 s once."
    )


def test_after_its_end_the_next_outage_has_a_patience_of_its_own() -> None:
    clock = ManualClock()
    outage = Outage(15.0, clock)
    outage.found()
    outage.over()
    assert outage.told("Locked.") == "Locked."
    outage.found()
    assert outage.may_wait(clock.now + 15.0)
    assert not outage.may_wait(clock.now), "nobody waits longer than for itself"


def test_one_that_nobody_has_looked_at_for_long_may_have_ended_meanwhile() -> None:
    clock = ManualClock()
    outage = Outage(15.0, clock)
    outage.found()
    clock.now += 15.1
    outage.found()
    assert outage.may_wait(clock.now + 15.0)
    for _ in range(3):
        clock.now += 5.0
        outage.found()
    assert not outage.may_wait(clock.now + 15.0)
