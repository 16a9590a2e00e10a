"""Going back, new containers, stopping, listing, previews; and the same as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from e2e.deploy_kit import answer, good, history, listed, number, refused, stop_all, versions
from e2e.http_kit import ask
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def three(place: Place, write: Callable[..., Path]) -> str:
    """Three versions of `number`, answering 1, 2, 3; the URL."""
    results = [place.deploy(write(number(n)), "--tag", f"n{n}") for n in (1, 2, 3)]
    return str(results[0]["urls"]["number"])


def test_going_back(deploys: Place, write: Callable[..., Path]) -> None:
    url = three(deploys, write)
    said = good(deploys, "app", "rollback", "number").text
    assert "number v4" in said
    assert answer(url) == 2
    result = json.loads(good(deploys, "app", "rollback", "number", "v1", "--json").text)
    assert (result["type"], result["version"], result["name"]) == ("published", 5, "number")
    assert answer(url) == 1
    newest = history(deploys, "number")[:2]
    assert [r["by"]["rollback_of"] for r in newest] == [1, 2]
    assert "rollback to v1" in good(deploys, "app", "history", "number").text

    assert "has no v17. It can go back to v4, v3, v2, v1" in refused(deploys, "app", "rollback", "number", "17")
    assert "v5 is the active revision" in refused(deploys, "app", "rollback", "number", "v5")
    assert "Write it as `zygo app history` shows it: v3" in refused(deploys, "app", "rollback", "number", "first")
    assert "Deployed are: number." in refused(deploys, "app", "rollback", "nummer")
    assert answer(url) == 1
    assert versions(deploys, "number") == [5, 4, 3, 2, 1]


def test_there_may_be_nothing_to_go_back_to(deploys: Place, write: Callable[..., Path]) -> None:
    deploys.deploy(write(number(1)))
    assert "no earlier revision" in refused(deploys, "app", "rollback", "number")


def test_revisions_beyond_the_limit_are_not_kept(
    tmp_path: Path, write: Callable[..., Path], shared_place: Place
) -> None:
    with Place({"ZYGO_KEEP_REVISIONS": "2"}) as place:
        place.start_server()
        three(place, write)
        found = history(place, "number")
        assert [(r["version"], r["kept"], bool(r["previews"])) for r in found] == [
            (3, True, True),
            (2, True, True),
            (1, False, False),
        ]
        said = refused(place, "app", "rollback", "number", "v1")
        assert "v1 of 'number' is no longer kept. Kept are v2" in said
        assert "ZYGO_KEEP_REVISIONS" in said
        gone = found[1]["previews"]["number"].replace("-v2.", "-v1.")
        assert ask(gone).status_code == 404
        stop_all(place)
        place.settle()


def test_rollover_is_the_same_version_in_new_containers(deploys: Place, write: Callable[..., Path]) -> None:
    program = number(1).replace("return 1", 'return os.environ["ZYGO_CONTAINER_ID"]')
    url = deploys.deploy(write(program))["urls"]["number"]
    before = answer(url)
    result = json.loads(good(deploys, "app", "rollover", "number", "--json").text)
    assert result["version"] == 1
    assert answer(url) != before
    good(deploys, "app", "rollover", "number", "--strategy", "recreate")
    assert versions(deploys, "number") == [1]
    assert "sideways" in refused(deploys, "app", "rollover", "number", "--strategy", "sideways")


def test_stopping(deploys: Place, write: Callable[..., Path]) -> None:
    url = three(deploys, write)
    assert answer(url) == 3
    said = refused(deploys, "app", "stop", "number")
    assert "Stop number? Its URLs will be gone, and 1 container will end." in said
    assert "--yes" in said
    assert answer(url) == 3, "nothing happens unasked"
    assert json.loads(good(deploys, "app", "stop", "number", "--yes", "--json").text) == {
        "name": "number",
        "containers": 1,
    }
    with pytest.raises(Exception, match="refused"):
        answer(url)  # its own port
    deploys.settle()
    assert "stopped already" in refused(deploys, "app", "stop", "number", "--yes")
    assert "no deployed app 'nobody'" in refused(deploys, "app", "stop", "nobody", "--yes")
    found = history(deploys, "number")
    assert [(r["version"], r["active"], r["kept"]) for r in found] == [(n, False, False) for n in (3, 2, 1)]
    assert "No app is" not in good(deploys, "app", "list").text
    assert "stopped" in good(deploys, "app", "list").text
    assert "no deployed app 'number'" in refused(deploys, "app", "rollback", "number")

    again = deploys.deploy(write(number(4)))
    assert (again["version"], again["urls"]["number"]) == (1, url)
    assert answer(url) == 4
    assert versions(deploys, "number") == [1]


def test_stopping_asks_on_a_terminal(deploys: Place, write: Callable[..., Path]) -> None:
    url = deploys.deploy(write(number(1)))["urls"]["number"]
    assert "Stop number?" in on_a_terminal(deploys, "n\n", 1)
    assert answer(url) == 1
    assert "Stopped number" in on_a_terminal(deploys, "y\n", 0)


def on_a_terminal(place: Place, typed: str, code: int) -> str:
    """`zygo app stop number`, with this typed at its question."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*place.command, "app", "stop", "number"], stdin=slave, stdout=slave, stderr=slave, env=place.environment
    )
    os.close(slave)
    said = b""
    try:
        while b"?" not in said:
            said += os.read(master, 4096)
        os.write(master, typed.encode())
        while True:
            said += os.read(master, 4096)
    except OSError:  # it has ended
        pass
    finally:
        os.close(master)
    assert process.wait(30) == code, said
    return said.decode()


def test_the_list(deploys: Place, write: Callable[..., Path]) -> None:
    deploys.deploy(write(number(1)))
    with deploys.serve(write(number(2, "live"), "live.py")):
        text = good(deploys, "app", "list").text
        found = listed(deploys)
    assert (found["number"]["state"], found["number"]["version"]) == ("deployed", 1)
    assert (found["live"]["state"], found["live"]["version"]) == ("serving", 0)
    assert found["number"]["functions"][0]["url"] in text
    [row] = [line for line in text.splitlines() if line.startswith("number")]
    assert row.split()[1:3] == ["deployed", "v1"]


def test_every_kept_revision_has_a_preview(deploys: Place, write: Callable[..., Path]) -> None:
    url = three(deploys, write)
    previews = {r["version"]: r["previews"]["number"] for r in history(deploys, "number")}
    assert {version: answer(preview) for version, preview in previews.items()} == {1: 1, 2: 2, 3: 3}
    assert answer(url) == 3
    good(deploys, "app", "rollback", "number", "v1")
    assert answer(previews[3]) == 3, "the one that was active keeps its preview"
    assert answer(history(deploys, "number")[0]["previews"]["number"]) == 1


IMPATIENT = """
import sys
from zygo.server import deployed, main
deployed.PREVIEW_IDLE_SECONDS, deployed.LOOK_SECONDS = 1.0, 0.1
sys.exit(main.main(["--foreground"]))
"""


@pytest.fixture
def impatient(fresh_place: Place) -> Iterator[Place]:
    """A server whose previews sleep after a second."""
    process = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT], env=fresh_place.environment, stderr=subprocess.DEVNULL
    )
    try:
        until(fresh_place.server_pid)
        yield fresh_place
    finally:
        stop_all(fresh_place)
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_a_preview_sleeps_when_nobody_looks_and_wakes_again(impatient: Place, write: Callable[..., Path]) -> None:
    place = impatient
    place.deploy(write(number(1)))
    place.deploy(write(number(2)))
    [preview] = [r["previews"]["number"] for r in history(place, "number") if r["version"] == 1]

    def running() -> list[Any]:
        return [p for p in place.processes() if p.kind == "revision"]

    until(lambda: len(running()) == 1, what="the end of v1's containers and zygote")
    for _ in range(2):
        assert answer(preview) == 1
        until(lambda: len(running()) == 1, what="the preview's sleep")
