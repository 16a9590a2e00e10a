"""`zygo run`: a program's local entrypoint here and its functions in containers, started and ended around one call."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from e2e.deploy_kit import listed
from e2e.http_kit import HOLD, Many, app_log
from e2e.programs import finished, line_with, started
from zygo.server.live import IDLE_SECONDS
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

NUMBERS = """
    import sys

    import modal

    app = modal.App("doubled")


    @app.function()
    def double(number):
        print("even" if number % 2 == 0 else "odd", number, file=sys.stdout if number % 2 == 0 else sys.stderr)
        return 2 * number


    @app.local_entrypoint()
    def main():
        print(double.local(2000))
        print(double.remote(2000))
        print(sum(double.map(range(100))))
"""

OPTIONS = """
    import datetime
    from typing import Literal, Optional

    import zygo

    app = zygo.App("options")


    @app.function()
    def joined(word: str, times: int = 2) -> str:
        return word * times


    @app.function()
    def items():
        yield 1


    @app.function()
    @zygo.fastapi_endpoint()
    def page():
        return 1


    @app.local_entrypoint()
    def typed(
        name: str,
        ratio: float = 0.5,
        dry_run: bool = False,
        since: Optional[datetime.datetime] = None,
        mode: Literal["fast", "slow"] = "fast",
    ):
        print((name, ratio, dry_run, since, mode))


    @app.local_entrypoint(name="words")
    async def all_words(*words):
        print(words, await joined.remote.aio("ab"))
        raise SystemExit(7)


    @app.local_entrypoint()
    def fails():
        def inner():
            raise ValueError("no such luck")

        inner()
"""


def test_what_functions_print_comes_apart_and_whole(place: Place, write: Callable[..., Path]) -> None:
    program = write(NUMBERS, "doubled.py")
    done = finished(place, "run", program.name, cwd=program.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("even")] == ["4000", "4000", "9900"]
    assert sorted(line for line in lines if line.startswith("even")) == sorted(
        ["even 2000", "even 2000", *(f"even {number}" for number in range(0, 100, 2))]
    )
    odd = [line for line in done.stderr.splitlines() if line.startswith("odd")]
    assert sorted(odd) == sorted(f"odd {number}" for number in range(1, 100, 2))
    assert "✓ Created doubled" in done.stderr
    assert "✓ doubled is done." in done.stderr

    quiet = finished(place, "run", "-q", program.name, cwd=program.parent)
    assert sorted(quiet.stdout.splitlines()) == sorted(lines)
    assert all(line.startswith("odd") for line in quiet.stderr.splitlines())


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--name", "x"], "('x', 0.5, False, None, 'fast')"),
        (
            ["--name=x", "--ratio", "2", "--dry-run", "--since", "2026-01-02", "--mode", "slow"],
            "('x', 2.0, True, datetime.datetime(2026, 1, 2, 0, 0), 'slow')",
        ),
        (["--name", "--no-dry-run"], None),
        (["--name", "x", "--mode", "third"], None),
        ([], None),
    ],
)
def test_parameters_are_options(
    place: Place, write: Callable[..., Path], words: list[str], printed: str | None
) -> None:
    program = write(OPTIONS, "options.py")
    done = finished(place, "run", "-q", "options.py::typed", *words, cwd=program.parent)
    assert (done.returncode, done.stdout.strip()) == ((0, printed) if printed else (2, "")), done.stderr


def test_one_function_or_one_entrypoint_is_named(place: Place, write: Callable[..., Path]) -> None:
    folder = write(OPTIONS, "options.py").parent

    def run(*arguments: str) -> tuple[int, str, str]:
        done = finished(place, "run", "-q", *arguments, cwd=folder)
        return done.returncode, done.stdout, done.stderr

    assert run("options.py::words", "a", "--b") == (7, "('a', '--b') abab\n", "")
    assert run("-m", "options::app.words")[0] == 7
    assert run("--write-result", "result", "options.py::joined", "--word", "xy", "--times", "3")[0] == 0
    assert (folder / "result").read_text() == "xyxyxy"

    code, _, said = run("options.py")
    assert code == 1
    assert "several local entrypoints" in said
    assert "zygo run options.py::joined" in said
    assert "generator" in run("options.py::items")[2]
    assert "zygo serve options.py" in run("options.py::page")[2]
    assert run("options.py::nothing")[0] == 2

    code, printed, said = run("options.py::fails")
    assert (code, printed) == (1, "")
    assert said.startswith(f'Traceback (most recent call last):\n  File "{folder}/options.py", line ')
    assert said.endswith("ValueError: no such luck\n")
    assert "/zygo/" not in said


def test_ctrl_c_ends_the_app(place: Place, write: Callable[..., Path]) -> None:
    program = write(
        """
        import time

        import zygo

        app = zygo.App("slow")


        @app.function()
        def slow():
            print("begun")
            time.sleep(60)
        """
    )
    with started(place, "run", program.name, cwd=program.parent) as process:
        line_with(process, "begun")
        process.send_signal(signal.SIGINT)
        line_with(process, "Aborted. slow has ended.")
        assert process.wait(20) == 130
    assert "slow" not in [app["name"] for app in json.loads(place.zygo("app", "list", "--json").text)["apps"]]


def test_a_run_and_a_serve_of_one_app_do_not_meet(place: Place, write: Callable[..., Path]) -> None:
    program = write(
        """
        import urllib.request

        import zygo

        app = zygo.App("both")
        VERSION = 1


        @app.function()
        def version():
            return VERSION


        @app.function()
        @zygo.fastapi_endpoint()
        def page():
            return version.remote()


        @app.local_entrypoint()
        def main():
            print(version.remote(), urllib.request.urlopen(page.get_web_url()).read())
        """,
        "both.py",
    )
    with place.serve(program, "--no-reload") as serve:
        program.write_text(program.read_text().replace("VERSION = 1", "VERSION = 2"))
        done = finished(place, "run", program.name, cwd=program.parent)
        assert done.stdout == "2 b'2'\n", done.stderr
        assert serve.url("page") not in done.stderr
        assert serve.get("page").json() == 1
    assert serve.exit_status() == 0


def test_a_detached_app_goes_on_until_its_spawned_calls_have_ended(
    place: Place, write: Callable[..., Path], tmp_path: Path
) -> None:
    """Also while one only waits: for its repetition, longer than an app without anything to do lives on."""
    program = write(
        f"""
        import time
        import zygo

        app = zygo.App("lingering")


        @app.function(retries=zygo.Retries(max_retries=1, initial_delay={IDLE_SECONDS * 2}, backoff_coefficient=1.0))
        def twice(began):
            if time.time() - began < {IDLE_SECONDS * 2}:
                raise RuntimeError("not yet")
            print("the second time", flush=True)


        @app.local_entrypoint()
        def main():
            print(twice.spawn(time.time()).object_id)
        """
    )
    done = finished(place, "run", "--detach", program.name, cwd=program.parent)
    assert done.returncode == 0, done.stderr
    until(lambda: "the second time" in app_log(place, "lingering"), 60.0, "the second attempt")
    until(lambda: "lingering" not in listed(place), 60.0, "the end of the app")


def test_a_detached_app_goes_on_until_it_has_nothing_to_do(place: Place, write: Callable[..., Path]) -> None:
    text = """
import os
import zygo

app = zygo.App("detached")

HOLD

@app.local_entrypoint()
def main():
    print(page.get_web_url())
"""
    page = HOLD.replace("def hold", "@app.function()\n@zygo.asgi_app()\ndef page")
    program = write(text.replace("HOLD", page))
    done = finished(place, "run", "--detach", program.name, cwd=program.parent)
    assert done.returncode == 0, done.stderr
    assert "zygo app stop detached" in done.stderr
    # A request in flight keeps it, however long the commands take.
    with Many(done.stdout.strip(), 1) as (held,):
        assert held.container
        states = {app["name"]: app["state"] for app in json.loads(place.zygo("app", "list", "--json").text)["apps"]}
        assert states["detached"] == "detached"
        assert place.zygo("app", "stop", "detached").code == 0
    assert place.zygo("app", "stop", "detached").code == 1
