from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from zygo.errors import ContainerError, TimeoutError
from zygo.gateway.admission import SUSPECT_SECONDS, Admission, QueueFullError, Slot
from zygo.gateway.balancer import pick
from zygo.gateway.container import Backend

if TYPE_CHECKING:
    from collections.abc import Callable


class ManualClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(self.now + delay, lambda: callback(*args))
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [t for t in self.timers if t.due <= self.now]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.callback()


class Timer:
    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Asker:
    """A request that waits."""

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.error: Exception | None = None

    def granted(self, slot: Slot) -> None:
        assert self.slot is None
        assert self.error is None
        self.slot = slot

    def refused(self, error: Exception) -> None:
        assert self.slot is None
        assert self.error is None
        self.error = error


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line(clock: ManualClock) -> Admission:
    return Admission(max_waiting=3, clock=clock)


def ask(line: Admission, *, front: bool = False) -> Asker:
    asker = Asker()
    line.enqueue(asker, front=front)
    return asker


def test_a_warm_request_goes_at_once_and_the_next_one_waits_for_its_place(line: Admission) -> None:
    line.add(Backend("a", "/a"))
    slot = line.try_acquire()
    assert slot is not None
    assert line.in_flight == 1
    assert line.try_acquire() is None
    second = ask(line)
    third = ask(line)
    line.release(slot)
    assert second.slot is not None
    assert third.slot is None
    assert (line.in_flight, line.waiting) == (1, 1)
    line.release(second.slot)
    assert third.slot is not None


def test_releasing_twice_changes_nothing(line: Admission) -> None:
    backend = Backend("a", "/a")
    line.add(backend)
    slot = line.try_acquire()
    assert slot is not None
    line.release(slot)
    line.release(slot)
    assert (line.in_flight, backend.in_flight, backend.served) == (0, 0, 1)


def test_nobody_overtakes_the_line(line: Admission) -> None:
    line.hold(1)
    first = ask(line)
    line.add(Backend("a", "/a", 2))
    assert line.try_acquire() is None
    line.unhold()
    assert first.slot is not None
    assert line.try_acquire() is not None


def test_the_line_is_bounded_and_the_refusal_is_prompt(line: Admission) -> None:
    for _ in range(3):
        ask(line)
    with pytest.raises(QueueFullError, match="3 requests wait") as caught:
        ask(line)
    assert caught.value.http_status == 503
    # One that lost its place for no fault of its own is not refused for it.
    retried = ask(line, front=True)
    line.add(Backend("a", "/a"))
    assert retried.slot is not None


def test_waiting_pokes_the_scheduler_which_may_answer_at_once(clock: ManualClock) -> None:
    line: Admission
    line = Admission(max_waiting=3, clock=clock, on_wait=lambda: line.add(Backend("a", "/a")))
    assert ask(line).slot is not None


def test_a_client_that_leaves_gives_up_its_place(line: Admission, clock: ManualClock) -> None:
    first, second = ask(line), ask(line)
    line.cancel(first)
    line.cancel(first)
    line.add(Backend("a", "/a"))
    assert first.slot is None
    assert second.slot is not None


def test_waiting_requests_go_to_the_new_revision_and_started_ones_finish_where_they_are(line: Admission) -> None:
    old, new = Backend("old", "/o"), Backend("new", "/n")
    line.add(old)
    started = line.try_acquire()
    assert started is not None
    waiting = ask(line)
    line.set_backends([new])
    assert waiting.slot is not None
    assert waiting.slot.backend is new
    assert started.backend is old
    assert not old.accepting
    assert line.in_flight == 2
    late = ask(line)
    line.release(started)
    assert late.slot is None
    assert old.in_flight == 0


def test_nothing_is_admitted_during_a_hold_which_ends_by_itself(line: Admission, clock: ManualClock) -> None:
    old, new = Backend("old", "/o"), Backend("new", "/n")
    line.add(old)
    line.hold(0.5)
    assert line.held
    asker = ask(line)
    clock.advance(0.4)
    assert asker.slot is None
    line.set_backends([new])
    assert asker.slot is None
    clock.advance(0.2)
    assert asker.slot is not None
    assert asker.slot.backend is new
    line.unhold()


def test_a_second_hold_starts_anew(line: Admission, clock: ManualClock) -> None:
    line.hold(0.5)
    clock.advance(0.4)
    line.hold(0.5)
    clock.advance(0.4)
    assert line.held
    clock.advance(0.2)
    assert not line.held


def test_fail_refuses_everyone_in_the_line(line: Admission) -> None:
    first, second = ask(line), ask(line)
    error = ContainerError("it does not start", "Traceback ...")
    line.fail(error)
    assert first.error is error
    assert second.error is error
    assert line.waiting == 0
    assert ask(line).error is None


def test_a_lasting_failure_refuses_until_there_is_a_container(line: Admission) -> None:
    line.fail(ContainerError("it does not start"), lasting=True)
    with pytest.raises(ContainerError):
        ask(line)
    line.add(Backend("a", "/a"))
    assert line.try_acquire() is not None
    assert ask(line).error is None


def test_a_suspect_is_left_alone_for_a_moment(line: Admission, clock: ManualClock) -> None:
    backend = Backend("a", "/a")
    line.add(backend)
    line.suspect(backend)
    asker = ask(line)
    assert asker.slot is None
    clock.advance(SUSPECT_SECONDS)
    assert asker.slot is not None
    dead = Backend("b", "/b")
    line.add(dead)
    line.suspect(dead)
    line.remove(dead)
    clock.advance(SUSPECT_SECONDS)
    assert not dead.accepting


def test_last_active_is_now_while_there_is_something(line: Admission, clock: ManualClock) -> None:
    line.add(Backend("a", "/a"))
    slot = line.try_acquire()
    assert slot is not None
    clock.advance(5)
    assert line.last_active == clock.now
    line.release(slot)
    ended = clock.now
    clock.advance(5)
    assert line.last_active == ended


def test_a_listener_hears_of_the_line_and_the_containers(line: Admission) -> None:
    heard: list[tuple[int, int]] = []
    line.on_change.append(lambda: heard.append((line.waiting, len(line.backends))))
    asker = ask(line)
    backend = Backend("a", "/a")
    line.add(backend)
    line.add(backend)
    assert asker.slot is not None
    line.release(asker.slot)
    line.remove(backend)
    line.remove(backend)
    assert heard == [(1, 0), (1, 1), (0, 0)]


def test_granting_to_many_dead_containers_does_not_pile_up_the_stack(line: Admission) -> None:
    class Bouncer(Asker):
        def granted(self, slot: Slot) -> None:
            slot.backend.accepting = False
            line.release(slot)
            line.enqueue(self, front=True)

    line.enqueue(Bouncer())
    line.set_backends([Backend(str(n), "/x") for n in range(3000)])
    assert line.waiting == 1
    assert line.in_flight == 0


def test_wait_is_the_same_line_for_coroutines() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        line = Admission(max_waiting=1, clock=loop)
        with pytest.raises(TimeoutError):
            await line.wait(loop.time() + 0.01)
        backend = Backend("a", "/a")
        line.add(backend)
        slot = await line.wait(loop.time() + 5)
        waiting = asyncio.ensure_future(line.wait(loop.time() + 5))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await line.wait(loop.time() + 5)
        # Granted and cancelled in the same moment: the slot must not be lost.
        line.release(slot)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert line.in_flight == 0
        assert line.waiting == 0
        assert (await line.wait(loop.time() + 5)).backend is backend

    asyncio.run(main())


def test_drained_waits_for_the_last_request() -> None:
    async def main() -> None:
        line = Admission(max_waiting=1, clock=asyncio.get_running_loop())
        backend = Backend("a", "/a", 2)
        line.add(backend)
        slots = [line.try_acquire(), line.try_acquire()]
        line.remove(backend)
        drained = asyncio.ensure_future(backend.drained())
        for slot in slots:
            await asyncio.sleep(0)
            assert not drained.done()
            assert slot is not None
            line.release(slot)
        await asyncio.wait_for(drained, 1)
        await backend.drained()

    asyncio.run(main())


def load(in_flight: int, target: int, limit: int, *, accepting: bool = True) -> Backend:
    backend = Backend(f"{in_flight}/{target}/{limit}", "/x", limit, target_inputs=target)
    backend.in_flight = in_flight
    backend.accepting = accepting
    return backend


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([], None),
        ([(1, 1, 1)], None),
        ([(0, 1, 1), (0, 1, 1)], 0),
        ([(1, 1, 1), (0, 1, 1)], 1),
        ([(0, 4, 8), (2, 4, 8), (1, 4, 8)], 1),
        ([(3, 4, 8), (2, 4, 8)], 0),
        ([(4, 4, 8), (0, 4, 8)], 1),
        ([(6, 4, 8), (5, 4, 8)], 1),
        ([(8, 4, 8), (8, 4, 8)], None),
        ([(8, 4, 8), (7, 4, 8)], 1),
    ],
)
def test_the_fullest_container_below_target_then_the_least_loaded_below_its_limit(
    loads: list[tuple[int, int, int]], chosen: int | None
) -> None:
    backends = [load(*numbers) for numbers in loads]
    assert pick(backends) is (None if chosen is None else backends[chosen])


def test_a_container_that_takes_nothing_is_not_picked() -> None:
    assert pick([load(0, 1, 1, accepting=False)]) is None


def test_a_line_that_nobody_used_is_not_active(line: Admission) -> None:
    """buffer_containers start with the traffic, not with the publish."""
    assert line.last_active is None
