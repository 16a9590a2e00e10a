"""How fast a map sends: numbers in, numbers out."""

from __future__ import annotations

from zygo.sdk.pace import BATCH_MOST, DOUBLING, FIRST, MOST, Pace


def test_nothing_is_known_at_first_and_silence_doubles() -> None:
    pace = Pace(1000, 1, MOST, now=0.0)
    assert pace.window(0.0) == FIRST
    assert pace.window(DOUBLING * 1.5) == 2 * FIRST
    assert pace.window(DOUBLING * 3.5) == 8 * FIRST
    assert pace.window(10.0) == MOST
    assert pace.batch(1000, 4) == 1


def test_a_long_function_gets_all_it_can_have() -> None:
    pace = Pace(64, 1, MOST, now=0.0)
    pace.answered(1.0, now=1.0)
    assert pace.window(1.0) == 128
    assert pace.batch(1000, 4) == 1


def test_a_short_function_gets_few_requests_of_many_inputs() -> None:
    pace = Pace(64, 1, MOST, now=0.0)
    pace.answered(0.00001, now=0.01)
    assert pace.window(0.01) == FIRST
    assert pace.batch(1000, 4) == BATCH_MOST
    assert pace.batch(10, 4) == 3  # a fair part of what there is
    pace = Pace(64, 1, MOST, now=0.0)
    pace.answered(0.002, now=0.01)
    assert pace.batch(1000, 4) == 5  # 10 ms of work


def test_a_function_that_grows_long_is_followed() -> None:
    pace = Pace(64, 1, MOST, now=0.0)
    pace.answered(0.0, now=0.0)
    for number in range(10):
        pace.answered(0.5, now=float(number))
    assert not pace.short
    assert pace.window(10.0) == 128


def test_one_input_each_where_a_container_takes_one() -> None:
    pace = Pace(64, 1, MOST, now=0.0, alone=True)
    pace.answered(0.0, now=0.0)
    assert pace.batch(1000, 4) == 1


def test_concurrent_containers_are_filled() -> None:
    pace = Pace(6400, 100, MOST, now=0.0)
    pace.answered(0.0001, now=0.0)
    assert pace.window(0.0) == MOST


def test_a_full_server_slows_it_down() -> None:
    pace = Pace(1000, 1, MOST, now=0.0)
    pace.refused(now=1.0)
    assert pace.window(1.05) == 0
    assert 0 < pace.look_again(1.05) <= 0.06
    assert pace.window(10.0) == MOST // 2


def test_no_more_connections_than_descriptors() -> None:
    assert Pace(1000, 1, 20, now=0.0).window(10.0) == 20
