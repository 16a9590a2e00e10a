"""Deployed apps whose state is in PostgreSQL, which is restarted, away, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.deploy_kit import answer, deploying, good, history, number, refused, stop_all, versions
from e2e.http_kit import app_log
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from postgres_kit import Cluster

SECONDS = 60.0


@pytest.fixture
def stored(postgres: Cluster) -> Iterator[Place]:
    """A place whose server keeps its state in PostgreSQL."""
    with Place({"ZYGO_DATABASE_URL": postgres.create_database()}) as place:
        place.start_server()
        yield place
        stop_all(place)
        place.settle()


def test_everything_works_with_postgresql(stored: Place, write: Callable[..., Path]) -> None:
    url = stored.deploy(write(number(1)), "--tag", "one")["urls"]["number"]
    assert stored.deploy(write(number(1)))["type"] == "unchanged"
    stored.deploy(write(number(2)))
    good(stored, "app", "rollback", "number")
    assert answer(url) == 1
    stored.kill_server()
    stored.start_server()
    assert answer(url) == 1
    assert [(r["version"], r["by"]["tag"], r["by"]["rollback_of"]) for r in history(stored, "number")] == [
        (3, "", 1),
        (2, "", None),
        (1, "one", None),
    ]
    assert not (stored.data / "zygo.db").exists()


def test_postgresql_is_restarted_under_a_deploy(stored: Place, postgres: Cluster, write: Callable[..., Path]) -> None:
    """The deploy waits for it; requests do not."""
    url = stored.deploy(write(number(1)))["urls"]["number"]
    postgres.stop()
    try:
        more = '\n\nif not zygo.is_local():\n    print("loaded", flush=True)\n'
        process = deploying(stored, write(number(2, more=more)))
        until(lambda: "loaded" in app_log(stored, "number"), SECONDS, "the new revision")
        assert answer(url) == 1
        assert process.poll() is None
    finally:
        postgres.start_again()
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    assert answer(url) == 2
    assert versions(stored, "number") == [2, 1]


def test_postgresql_stays_away(stored: Place, postgres: Cluster, write: Callable[..., Path]) -> None:
    """What needs it fails with its name, the cause and the mend; what is deployed goes on; nothing is lost."""
    url = stored.deploy(write(number(1)))["urls"]["number"]
    postgres.stop()
    try:
        said = refused(stored, "deploy", str(write(number(2))))
        assert "record: postgresql://zygo:***@/" in said.splitlines()[0]
        assert "Check that PostgreSQL runs" in said
        assert "Nothing was changed: v1 goes on." in said
        assert "open-sesame" not in said + stored.server_log()
        assert answer(url) == 1
        stored.kill_server()
        said = refused(stored, "server", "start")
        assert "Check that PostgreSQL runs" in said
    finally:
        postgres.start_again()
    stored.start_server()
    assert answer(url) == 1
    assert versions(stored, "number") == [1]
    assert stored.deploy(write(number(2)))["version"] == 2
