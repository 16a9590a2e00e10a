"""`zygo app logs` of a served app: the last lines, filters, following across rotations, readers that go away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from e2e.http_kit import app_log
from zygo.testing.harness import Place, Serve, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import sys
import zygo

app = zygo.App("chatty")

@app.function(max_containers=1)
@zygo.fastapi_endpoint()
def say(word: str, count: int = 1, size: int = 0):
    for i in range(count):
        print(f"{word} {i}" + "." * size)
    sys.stdout.flush()
    print(f"err {word}", file=sys.stderr, flush=True)

@app.function(max_containers=1)
@zygo.fastapi_endpoint()
def hush():
    return "nothing"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("logs")
    (path / "chatty.py").write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Serve]:
    """A place with small logs, and the app in it."""
    with Place({"ZYGO_LOG_BYTES": "65536"}) as place, place.serve(folder / "chatty.py") as serve:
        serve.get("hush")
        yield serve


def say(serve: Serve, word: str, count: int = 1, size: int = 0) -> None:
    """Let it print, and wait until the file has the last line of it."""
    assert serve.get("say", params={"word": word, "count": count, "size": size}).status_code == 200
    until(lambda: f"err {word}" in app_log(serve.place, "chatty"))


class Following:
    """`zygo app logs -f` in the background."""

    def __init__(self, place: Place, *options: str) -> None:
        self.process = subprocess.Popen(
            [*place.command, "app", "logs", "chatty", "-f", *options],
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def until_line(self, end: str) -> list[str]:
        """The lines up to one that ends with `end`."""
        assert self.process.stdout is not None
        found = []
        for line in self.process.stdout:
            found.append(line.rstrip("\n"))
            if found[-1].endswith(end):
                return found
        raise AssertionError(f"it ended before {end!r}: {found[-20:]}")


def test_it_shows_the_last_hundred_lines_and_ends(served: Serve) -> None:
    say(served, "many", 150)
    done = served.place.zygo("app", "logs", "chatty")
    assert done.code == 0
    assert len(done.lines) == 100
    assert re.search(r"^say +\| many 149$", done.text, re.MULTILINE)
    assert "many 9\n" not in done.text
    assert served.place.zygo("app", "logs", "chatty-dev", "-n", "3").lines[-1:] == done.lines[-1:]
    assert served.place.zygo("app", "logs", "chatty", "-n", "0").text == ""


def test_filters(served: Serve) -> None:
    place = served.place
    say(served, "Filter", 3)
    served.get("hush")
    until(lambda: app_log(place, "chatty").rstrip().endswith("ms") or "hush request" in app_log(place, "chatty"))
    assert place.zygo("app", "logs", "chatty", "--search", "filter 1").text == "say | Filter 1\n"
    assert "err Filter" in place.zygo("app", "logs", "chatty", "-s", "stderr").text
    assert "Filter 1" not in place.zygo("app", "logs", "chatty", "-s", "stderr", "-s", "request").text
    hush = place.zygo("app", "logs", "chatty", "--function", "hush", "--since", "1h").lines
    assert hush
    assert all(line.startswith("hush | GET / 200") for line in hush)
    assert place.zygo("app", "logs", "chatty", "--until", "1h").text == ""
    assert "Filter 2" in place.zygo("app", "logs", "chatty", "--since", "1h").text
    stamped = place.zygo("app", "logs", "chatty", "--search", "Filter 2", "--timestamps").text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} say \| Filter 2\n", stamped)

    found = [json.loads(line) for line in place.zygo("app", "logs", "chatty", "--search", "Filter", "--json").lines]
    assert [line["text"] for line in found if line["stream"] == "stdout"] == ["Filter 0", "Filter 1", "Filter 2"]
    assert {line["function"] for line in found} == {"say"}
    assert abs(found[0]["time"] - time.time()) < 300
    container = found[0]["container"]
    assert container
    assert len(place.zygo("app", "logs", "chatty", "--search", "Filter", "--container", container[:-1]).lines) >= 3
    shown = place.zygo("app", "logs", "chatty", "--search", "Filter 2", "--show-container-id").text
    assert shown == f"say {container} | Filter 2\n"


def test_what_is_wrong_is_named(served: Serve) -> None:
    place = served.place
    unknown = place.zygo("app", "logs", "chaty")
    assert unknown.code == 1
    assert "There is no app 'chaty', and no log of one. Did you mean 'chatty-dev'?" in unknown.text
    wrong = place.zygo("app", "logs", "chatty", "-s", "sdtout")
    assert wrong.code == 1
    assert "There is no stream 'sdtout'" in wrong.text


def test_following_survives_rotations_and_misses_nothing(served: Serve) -> None:
    say(served, "before", 5)
    with Following(served.place, "-n", "4", "-s", "stdout") as following:
        assert following.until_line("before 4") == [f"say | before {i}" for i in range(1, 5)]
        say(served, "loud", 2000, 200)
        lines = following.until_line("loud 1999" + "." * 200)
        assert lines == [f"say | loud {i}" + "." * 200 for i in range(2000)]
        files = served.place.data / "logs" / "apps" / "chatty@dev"
        assert sorted(path.name for path in files.iterdir()) == ["log.1.jsonl", "log.2.jsonl", "log.jsonl"]
        following.process.send_signal(signal.SIGINT)
        assert following.process.wait(20) == 0


def test_readers_that_stop_or_end_hold_up_nobody(served: Serve) -> None:
    with Following(served.place) as stopped, Following(served.place) as gone:
        for following in (stopped, gone):
            assert following.process.stdout is not None
            following.process.stdout.readline()
        os.kill(stopped.process.pid, signal.SIGSTOP)
        gone.process.kill()
        for i in range(5):
            say(served, f"round{i}", 2000, 200)
            assert served.get("hush").json() == "nothing"
    piped = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", *served.place.command, "app", "logs", "chatty", "-f"],
        env=served.place.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert piped.returncode == 0
    assert len(piped.stdout.splitlines()) == 1
    assert piped.stderr == ""


def test_a_log_outlives_its_app_and_the_server(fresh_place: Place, folder: Path) -> None:
    place = fresh_place
    with place.serve(folder / "chatty.py") as serve:
        say(serve, "remember")
    place.stop_server()
    assert re.search(r"^say +\| remember 0$", place.zygo("app", "logs", "chatty").text, re.MULTILINE)
    with Following(place) as following:
        assert "Warning: The app 'chatty' does not run; its lines follow when it does." in following.until_line(
            "err remember"
        )
        with place.serve(folder / "chatty.py") as serve:
            say(serve, "again")
            following.until_line("| again 0")
        place.stop_server()
        following.until_line("Error: The server has ended.")
        assert following.process.wait(20) == 1
