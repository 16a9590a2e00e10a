"""The limits of spawned calls, as the SDK meets them: too many, too large, and results that are no longer kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import zygo
from zygo import errors
from zygo.sdk import spawning
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST = 3
SECONDS = 60.0

PROGRAM = """
import time
import zygo

app = zygo.App("limits")

@app.function(max_containers=1)
def wait(seconds):
    time.sleep(seconds)
    return seconds
"""


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path]) -> Iterator[Place]:
    """A place of its own in which a function may have MOST spawned inputs without a result; `limits` is deployed."""
    with Place({"ZYGO_MAX_SPAWNED": str(MOST)}) as place:
        monkeypatch.setenv("ZYGO_RUNTIME_DIR", str(place.runtime))
        place.start_server()
        place.deploy(write(PROGRAM, "limits.py"))
        yield place
        assert place.zygo("app", "stop", "limits", "--yes").code == 0
        place.settle()


def test_above_the_limit_a_spawn_is_refused_and_nothing_is_kept_of_it(limited: Place) -> None:
    wait = zygo.Function.from_name("limits", "wait")
    calls = [wait.spawn(60) for _ in range(MOST)]
    with pytest.raises(
        errors.ResourceExhaustedError, match=rf"{MOST} spawned inputs .* limit of {MOST}\..*ZYGO_MAX_SPAWNED"
    ):
        wait.spawn(0)
    with pytest.raises(errors.ResourceExhaustedError, match="2 more would be above the limit"):
        wait.spawn_map([0, 0])
    for call in calls:
        call.cancel()
    # What has ended counts no more.
    assert wait.spawn(0).get(timeout=60) == 0


def test_a_result_that_was_kept_long_enough_has_expired(limited: Place) -> None:
    wait = zygo.Function.from_name("limits", "wait")
    old, new = wait.spawn(0), wait.spawn(0)
    assert old.get(timeout=60) == new.get(timeout=60) == 0
    limited.kill_server()
    with closing(sqlite3.connect(limited.data / "zygo.db")) as connection, connection:
        connection.execute("UPDATE calls SET expires_at = 1.0 WHERE id = ?", (old.object_id,))
    limited.start_server()

    def gone() -> bool:
        try:
            return old.get(timeout=0) is None
        except errors.OutputExpiredError:
            return True

    until(gone, SECONDS, "the sweep that a server begins with")
    with pytest.raises(errors.OutputExpiredError, match=rf"{old.object_id} were kept for 7 days and are gone"):
        old.get(timeout=0)
    assert new.get(timeout=0) == 0, "and only that"


def test_arguments_that_are_too_large_to_be_kept_are_refused_by_name(
    limited: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawning, "MAX_REQUEST", 2**20)
    wait = zygo.Function.from_name("limits", "wait")
    with pytest.raises(
        errors.RequestSizeError, match=r"of wait have 2 MiB, and at most 1 MiB .* to a file or a bucket"
    ):
        wait.spawn(b"x" * 2 * 2**20)
