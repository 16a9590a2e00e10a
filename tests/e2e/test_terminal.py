"""What is printed: plain lines for a pipe, colours for a terminal, each function's output, and where the time went."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import requests

from e2e.http_kit import app_log
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PROGRAM = """
    import sys
    import time

    import zygo

    app = zygo.App("talks")
    print("module is imported")

    @app.function()
    @zygo.fastapi_endpoint()
    def say(word: str = "hello", ms: int = 0):
        print("out", word)
        print("err", word, file=sys.stderr)
        time.sleep(ms / 1000)
        return word

    @app.function()
    @zygo.fastapi_endpoint(method="POST", path="/long/path/{id}")
    def other_one(id: int):
        sys.stdout.write("one\\ntwo\\n\\nno newline at the end")
        return id

    @app.function()
    @zygo.fastapi_endpoint()
    def fails():
        return {}["missing"]

    @app.function()
    @zygo.fastapi_endpoint()
    def rude():
        print("\\x1b[2J\\x1b]0;title\\x07\\x1b[31mred\\x1b[0m", "a\\rb", "bell\\x07", "\\N{SNOWMAN}")
        sys.stdout.buffer.write(b"\\xff\\xfe bytes\\n")
        return 1
"""

REQUEST = r"^{what}  {status}  {start} [\d.]+ ms  \({parts}\)  {function}"
COLD_PARTS = r"queue [\d.]+, fork [\d.]+, first [\d.]+"
WARM_PARTS = r"queue [\d.]+, first [\d.]+"


def test_the_plain_form(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        assert serve.get("say").status_code == 200
        assert serve.stop() == 0
    text = serve.text
    assert "\x1b" not in text
    assert "\r" not in text
    expected = [
        r"✓ Created talks in [\d.]+ s( \(.*\))?\.",
        r"  say => http://\S+",
        r"    also http://local--talks-say-dev\.localhost:\d+",
        r"    curl 'http://\S+\?word=hello&ms=0'",
        r"  other_one => http://\S+",
        r"    also http://\S+",
        r"    curl -X POST http://\S+/long/path/1",
        r"  fails => http://\S+",
        r"⚡ Serving\.\.\. hit Ctrl-C to stop!",
        r"  Watching program\.py",
        r"Stopped\. talks is no longer served\.",
    ]
    position = 0
    for pattern in expected:
        found = next((i for i, line in enumerate(serve.lines[position:]) if re.fullmatch(pattern, line)), None)
        assert found is not None, f"no {pattern!r} in line {position} or later of:\n{text}"
        position += found + 1


def test_output_comes_live_with_the_name_of_its_function(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        assert serve.seen("module is imported")
        requests.get(serve.url("say"), params={"word": "a"}, timeout=30)
        serve.wait_for(r"^say +\| out a$")
        serve.post("other_one", path="/long/path/7")
        for text in ("one", "two", "", "no newline at the end"):
            serve.wait_for(rf"^other_one \| {text}$")
        assert serve.seen(r"^say +\| err a$")


def test_output_that_would_change_the_terminal_is_cleaned(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        assert serve.get("rude").status_code == 200
        serve.wait_for(r"^rude +\| b bell \N{SNOWMAN}$")
        serve.wait_for(r"^rude +\| .*bytes$")
        assert "\x1b" not in serve.text
        assert "\x07" not in serve.text


def test_a_request_is_logged_cold_then_warm(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        url = serve.url("say")
        with requests.Session() as session:
            cold = session.get(url, params={"word": "a"}, timeout=30)
            serve.wait_for(REQUEST.format(what="GET /", status=200, start="cold", parts=COLD_PARTS, function="say"))
            warm = session.get(url, params={"word": "b", "ms": "50"}, timeout=30)
            line = serve.wait_for(
                REQUEST.format(what="GET /", status=200, start="warm", parts=WARM_PARTS, function="say")
            )
        total = float(re.search(r"warm ([\d.]+) ms", line[0])[1])  # type: ignore[index]
        assert total >= 50
        assert serve.get("say", path="/nowhere").status_code == 404
        serve.wait_for(REQUEST.format(what="GET /nowhere", status=404, start="warm", parts=WARM_PARTS, function="say"))
        assert serve.post("other_one", path="/long/path/x").status_code == 422
        serve.wait_for(
            REQUEST.format(what="POST /long/path/x", status=422, start="cold", parts=COLD_PARTS, function="other_one")
        )
    timing = r"start;desc=(cold|warm), queue;dur=([\d.]+), fork;dur=([\d.]+), app;dur=([\d.]+)"
    first, second = (re.fullmatch(timing, a.headers["server-timing"]) for a in (cold, warm))
    assert first is not None
    assert second is not None
    assert (first[1], second[1]) == ("cold", "warm")
    assert float(first[3]) > 0
    assert float(second[3]) == 0
    assert float(second[4]) >= 50
    assert cold.headers["x-request-id"] != warm.headers["x-request-id"]


def test_an_exception_is_shown_trimmed_and_only_once(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        answer = serve.get("fails")
        assert answer.status_code == 500
        assert "KeyError: 'missing'" in answer.text
        assert 'File "/root/program.py"' in answer.text
        serve.wait_for(r"^fails +\| Traceback \(most recent call last\):")
        serve.wait_for(r'^fails +\|   File "/root/program.py", line \d+, in fails')
        serve.wait_for(r"^fails +\| KeyError: 'missing'$")
        serve.wait_for(r"GET /  500", anywhere=True)
        assert serve.text.count("KeyError: 'missing'") == 1
        for inner in ("starlette", "fastapi/routing", "uvicorn", "zygo/guest"):
            assert inner not in serve.text, serve.text
        assert serve.get("say").status_code == 200


def test_timestamps(place: Place, write: Callable[..., Path]) -> None:
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}"
    with place.serve(write(PROGRAM), "--timestamps") as serve:
        serve.get("say", params={"word": "a"})
        serve.wait_for(rf"^{stamp} say +\| out a$")


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_colours_unless_it_says_otherwise(
    place: Place, write: Callable[..., Path], colours: bool
) -> None:
    env = {"TERM": "xterm-256color"} | ({} if colours else {"NO_COLOR": "1"})
    with place.serve(write(PROGRAM), terminal=True, env=env) as serve:
        assert serve.get("say", params={"word": "a"}).json() == "a"
        serve.wait_for("out a")
        serve.wait_for("200  cold")
        assert serve.stop() == 0
    assert ("\x1b[" in serve.text) == colours
    assert "Stopped. talks is no longer served." in serve.text


def test_the_build_is_shown_as_it_goes(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        image = zygo.Image.debian_slim().pip_install("six==1.16.0").env({"SHOWN": "1"})
        app = zygo.App("builds", image=image)

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            import six

            return six.__version__
    """)
    with place.serve(path) as serve:
        assert serve.seen(r"pip_install\(.six==1\.16\.0.\) \| Installed 1 package"), serve.text
        assert serve.seen(r"Created builds in [\d.]+ s \(build [\d.]+ s, load [\d.]+ s\)")
        assert serve.get("f").json() == "1.16.0"


def test_status_and_logs_of_the_server(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(PROGRAM)) as serve:
        assert serve.get("say").status_code == 200
        shown = place.zygo("server", "status")
        assert shown.code == 0
        assert "talks (serving)" in shown.text
        assert f"say => {serve.url('say')}" in shown.text
        status = json.loads(place.zygo("server", "status", "--json").text)
        assert status["running"] is True
        functions = {function["name"]: function for function in status["apps"][0]["functions"]}
        assert functions["say"]["url"] == serve.url("say")
        assert functions["say"]["containers"] >= 1
        log = place.zygo("server", "logs", "-n", "10000")
        assert "serves on" in log.text
        until(lambda: "out hello" in app_log(place, "talks"), 10, "the line in the app's log file")


def test_many_lines_arrive_whole_and_in_order(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("lines")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            for i in range(3000):
                print(f"line {i} " + "x" * 100)
            print("y" * 200_000)
            print("last")
            return "done"
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == "done"
        serve.wait_for(r"^f +\| last$")
        numbers = [int(m[1]) for line in serve.lines if (m := re.match(r"f +\| line (\d+) x{100}$", line))]
        assert numbers == list(range(3000))
        assert sum(line.count("y") for line in serve.lines) >= 200_000
