"""Programs that start their app themselves: `with app.run()`, `app.deploy()`, under plain Python and under `zygo python`."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

from e2e.programs import finished, line_with, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PYTHON = [sys.executable]

RUNS = """
    import asyncio
    import sys

    import zygo

    app = zygo.App("program")


    class Point:
        def __init__(self, x):
            self.x = x


    @app.function()
    def point(x):
        print("in a container")
        return Point(x)


    @app.function()
    def through(x):
        return point.remote(x).x + 1


    async def later():
        async with app.run(name="another"):
            print((await point.remote.aio(6)).x, app.app_id is not None)


    if __name__ == "__main__":
        with app.run() as running:
            print(running is app, isinstance(point.remote(3), Point), through.remote(4))
            try:
                with app.run():
                    pass
            except zygo.exception.InvalidError as error:
                print("refused:", "running already" in str(error))
        try:
            point.remote(1)
        except zygo.exception.ExecutionError:
            print("not served any more", app.app_id)
        if "loud" in sys.argv:
            with zygo.enable_output(), app.run():
                point.remote(7)
        asyncio.run(later())
"""


def test_an_app_runs_around_a_block(place: Place, write: Callable[..., Path]) -> None:
    program = write(RUNS)
    expected = ["True True 5", "refused: True", "not served any more None", "6 True"]
    quiet = finished(place, program.name, cwd=program.parent, command=PYTHON)
    assert (quiet.returncode, quiet.stdout.splitlines(), quiet.stderr) == (0, expected, "")

    loud = finished(place, program.name, "loud", cwd=program.parent, command=PYTHON)
    assert [*expected[:3], "in a container", expected[3]] == loud.stdout.splitlines()
    assert "✓ Created program" in loud.stderr


def test_a_program_that_runs_its_app_when_imported_is_told(place: Place, write: Callable[..., Path]) -> None:
    program = write(
        """
        import zygo

        app = zygo.App("program")


        @app.function()
        def f():
            return 1


        with app.run():
            print(f.remote())
        """
    )
    for done in (
        finished(place, program.name, cwd=program.parent, command=PYTHON),
        finished(place, "run", program.name, cwd=program.parent),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert 'Put it under `if __name__ == "__main__":`' in done.stderr
        assert "zygo/program" not in done.stderr


def test_a_program_deploys_its_app(place: Place, write: Callable[..., Path]) -> None:
    text = """
        import modal

        app = modal.App()


        @app.function()
        def f(x):
            return x + 1


        if __name__ == "__main__":
            assert app.deploy("shop", tag="one") is app
            print(f.remote(1), modal.Function.from_name("shop", "f").remote(2))
    """
    program = write(text)
    done = finished(place, "python", program.name, cwd=program.parent)
    assert (done.returncode, done.stdout) == (0, "2 3\n"), done.stderr
    revisions = json.loads(place.zygo("app", "history", "shop", "--json").text)["revisions"]
    assert [(r["version"], r["by"]["tag"]) for r in revisions] == [(1, "one")]
    place.zygo("app", "stop", "--yes", "shop")

    nameless = write(text.replace('"shop", tag="one"', ""))
    done = finished(place, "python", nameless.name, cwd=program.parent)
    assert done.returncode == 1
    assert "app.deploy(name='program')" in done.stderr


def test_python_is_python(place: Place, write: Callable[..., Path]) -> None:
    program = write(
        """
        import multiprocessing
        import signal
        import sys

        import modal
        import zygo


        def child():
            import modal

            print("child", modal is zygo)


        def fail():
            raise ValueError("mine")


        if __name__ == "__main__":
            print(modal is zygo, sys.argv, sys.path[0], __file__)
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            if "wait" in sys.argv:
                print("waiting", flush=True)
                signal.pause()
            fail()
        """
    )
    done = finished(place, "python", program.name, "--x", "-h", cwd=program.parent)
    plain = finished(place, "-c", "raise SystemExit(0)", cwd=program.parent, command=PYTHON)
    assert plain.returncode == 0
    assert done.stdout.splitlines() == [
        f"True ['program.py', '--x', '-h'] {program.parent} {program}",
        "child True",
    ]
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.count("File ") == 2
    assert done.stderr.endswith("ValueError: mine\n")

    code = finished(place, "python", "-c", "import sys, modal; print(sys.argv); sys.exit(5)", "a", cwd=program.parent)
    assert (code.returncode, code.stdout, code.stderr) == (5, "['-c', 'a']\n", "")
    module = finished(place, "python", "-m", "program", "m", cwd=program.parent)
    assert f"True ['{program}', 'm']" in module.stdout

    with started(place, "python", program.name, "wait", cwd=program.parent) as process:
        line_with(process, "waiting")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM


def test_zygo_python_shows_what_functions_print(place: Place, write: Callable[..., Path]) -> None:
    program = write(
        """
        import modal

        app = modal.App("prints")


        @app.function()
        def f():
            print("Inside")
            return 1


        if __name__ == "__main__":
            with app.run():
                f.remote()
        """
    )
    done = finished(place, "python", program.name, cwd=program.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Inside\n", "")
