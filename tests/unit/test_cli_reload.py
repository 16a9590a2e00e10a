"""The warm loader: real processes, real forks, and user files that do what user files do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import textwrap
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import pytest

from zygo import errors, loader
from zygo.cli.live import Live
from zygo.cli.watch import Watcher
from zygo.program import reload
from zygo.program.reload import EvaluationCancelledError, WarmLoader
from zygo.sdk import launch
from zygo.sdk.sources import WatchRoot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from zygo.loader import Evaluated

T = TypeVar("T")

APP = """
import zygo

app = zygo.App("hello")


@app.function()
@zygo.fastapi_endpoint()
def f():
    return 1
"""


class Program:
    """A user's file in a folder, and the warm loader on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "hello.py"

    def write(self, text: str, *, app: bool = True) -> None:
        self.path.write_text(textwrap.dedent(text) + (APP if app else ""))

    @contextlib.asynccontextmanager
    async def warm(self, *, name: str | None = None, seconds: float = 20.0) -> AsyncIterator[WarmLoader]:
        warm = WarmLoader(loader.parse_ref(str(self.path)), name, seconds=seconds)
        try:
            yield warm
        finally:
            pid = warm.pid
            await warm.close()
            assert pid is None or await launch.gone(pid, 0.0)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def run(body: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(body(), 60)

    return asyncio.run(bounded())


async def loading(program: Program) -> None:
    """Until the user's file has touched `in`."""
    watcher = Watcher()
    watcher.arm([WatchRoot(str(program.folder), ("in",))])
    try:
        while not (program.folder / "in").exists():
            assert await watcher.changed(20.0)
    finally:
        watcher.close()


async def failure(warm: WarmLoader) -> errors.Error:
    with pytest.raises(errors.Error) as caught:
        await warm.evaluate()
    return caught.value


def test_an_evaluation_says_what_the_app_is(program: Program) -> None:
    program.write("")

    async def body() -> Evaluated:
        async with program.warm() as warm:
            return await warm.evaluate()

    evaluated = run(body)
    assert evaluated.app.name == "hello"
    assert [function.name for function in evaluated.app.functions] == ["f"]
    assert [source.local_path for source in evaluated.sources] == [str(program.path)]


def test_a_name_from_the_command_line_wins(program: Program) -> None:
    program.write("")

    async def body() -> Evaluated:
        async with program.warm(name="other") as warm:
            return await warm.evaluate()

    assert run(body).app.name == "other"


def test_the_users_modules_are_new_in_each_evaluation(program: Program, capfd: Any) -> None:
    (program.folder / "state.py").write_text("count = 0\n")
    program.write(
        """
        import os, state, sys
        state.count += 1
        print("count", state.count, os.environ.get("LEAK"), hasattr(sys, "leak"))
        os.environ["LEAK"] = "yes"
        sys.leak = True
        os.chdir("/")
        """
    )

    async def body() -> int | None:
        async with program.warm() as warm:
            await warm.evaluate()
            pid = warm.pid
            (program.folder / "state.py").write_text("count = 10\n")
            await warm.evaluate()
            assert warm.pid == pid
            return pid

    assert run(body)
    assert capfd.readouterr().out.splitlines() == ["count 1 None False", "count 11 None False"]


def test_a_syntax_error_is_the_users(program: Program) -> None:
    program.write("def broken(:\n", app=False)

    async def body() -> errors.Error:
        async with program.warm() as warm:
            error = await failure(warm)
            program.write("")
            assert (await warm.evaluate()).app.name == "hello"
            return error

    error = run(body)
    assert isinstance(error, errors.UserCodeError)
    assert "SyntaxError" in error.traceback
    assert "line 1" in error.traceback
    assert "zygo" not in error.traceback


def test_the_traceback_starts_in_the_users_file(program: Program) -> None:
    program.write("def inner():\n    raise KeyError('x')\n\ninner()\n", app=False)

    async def body() -> errors.Error:
        async with program.warm() as warm:
            return await failure(warm)

    error = run(body)
    assert isinstance(error, errors.UserCodeError)
    frames = [line for line in error.traceback.splitlines() if line.startswith("  File")]
    assert len(frames) == 2
    assert all("hello.py" in frame for frame in frames)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(3)", "sys.exit|SystemExit"),
        ("import os; os._exit(3)", r"ended its interpreter \(exit status 3\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd"),
        ("input()", "EOFError"),
        ("raise RuntimeError('\\udcff \\x00')", "RuntimeError"),
    ],
)
def test_a_file_that_ends_its_interpreter_is_told_and_the_next_evaluation_works(
    program: Program, code: str, said: str
) -> None:
    program.write(code)

    async def body() -> errors.Error:
        async with program.warm() as warm:
            error = await failure(warm)
            program.write("")
            assert (await warm.evaluate()).app.name == "hello"
            return error

    error = run(body)
    assert isinstance(error, errors.LoadError), error
    text = f"{error}\n{getattr(error, 'traceback', '')}"
    assert re.search(said, text), text


def test_a_file_that_hangs_is_ended_and_shown_where(program: Program) -> None:
    program.write("import time\n\ndef wait():\n    time.sleep(600)\n\nwait()\n", app=False)

    async def body() -> errors.Error:
        async with program.warm(seconds=1.0) as warm:
            error = await failure(warm)
            assert warm.pid is not None
            assert not psutil.Process(warm.pid).children()
            return error

    error = run(body)
    assert isinstance(error, errors.UserCodeError)
    assert "still being loaded after 1 s" in str(error)
    assert 'hello.py", line 4 in wait' in error.traceback
    assert "evaluator" not in error.traceback


def test_processes_that_a_module_starts_do_not_outlive_its_evaluation(program: Program) -> None:
    program.write(
        """
        import pathlib, subprocess
        child = subprocess.Popen(["sleep", "600"])
        pathlib.Path(__file__).with_name("child").write_text(str(child.pid))
        """
    )

    async def body() -> bool:
        async with program.warm() as warm:
            await warm.evaluate()
            return await launch.gone(int((program.folder / "child").read_text()), 5.0)

    assert run(body)


def test_a_module_that_forks_does_not_hold_up_the_answer(program: Program) -> None:
    program.write("import os, time\nif os.fork() == 0:\n    time.sleep(600)\n")

    async def body() -> str:
        async with program.warm() as warm:
            return (await warm.evaluate()).app.name

    assert run(body) == "hello"


def test_an_evaluation_can_be_given_up(program: Program) -> None:
    program.write("import pathlib, time\npathlib.Path(__file__).with_name('in').touch()\ntime.sleep(600)\n")

    async def body() -> None:
        async with program.warm() as warm:
            running = asyncio.create_task(warm.evaluate())
            await loading(program)
            warm.cancel()
            with pytest.raises(EvaluationCancelledError):
                await running
            program.write("")
            assert (await warm.evaluate()).app.name == "hello"

    run(body)


def test_closing_while_a_file_hangs_ends_everything(program: Program) -> None:
    program.write("import pathlib, time\npathlib.Path(__file__).with_name('in').touch()\ntime.sleep(600)\n")

    async def body() -> None:
        async with program.warm() as warm:
            running = asyncio.create_task(warm.evaluate())
            await loading(program)
            assert warm.pid is not None
            (child,) = psutil.Process(warm.pid).children()
            running.cancel()
            await asyncio.wait({running})
            assert await launch.gone(child.pid, 5.0)

    run(body)


def test_third_party_modules_are_held_and_the_users_shadow_wins(program: Program, capfd: Any) -> None:
    program.write(
        "import sys\nprint('held', 'httptools' in sys.modules)\nimport httptools\nprint(httptools.__file__)\n"
    )

    async def body() -> None:
        async with program.warm() as warm:
            evaluated = await warm.evaluate()
            assert "httptools" in evaluated.third_party
            warm.preload(evaluated.third_party)
            await warm.evaluate()
            (program.folder / "httptools.py").write_text("mine = True\n")
            await warm.evaluate()

    run(body)
    lines = capfd.readouterr().out.splitlines()
    assert [lines[0], lines[2], lines[4]] == ["held False", "held True", "held False"]
    assert lines[5] == str(program.folder / "httptools.py")


def test_what_cannot_be_preloaded_is_left_out_silently(program: Program, capfd: Any) -> None:
    program.write("")

    async def body() -> str:
        async with program.warm() as warm:
            await warm.evaluate()
            warm.preload(("no_such_module_at_all", "antigravity.nothing", "httptools"))
            return (await warm.evaluate()).app.name

    assert run(body) == "hello"
    assert capfd.readouterr() == ("", "")


def test_a_crash_with_modules_held_is_tried_again_without_them(program: Program) -> None:
    program.write(
        """
        import os, signal, sys
        if "httptools" in sys.modules:
            os.kill(os.getpid(), signal.SIGSEGV)
        import httptools
        """
    )

    async def body() -> bool:
        async with program.warm() as warm:
            evaluated = await warm.evaluate()
            before = warm.pid
            warm.preload(evaluated.third_party)
            await warm.evaluate()
            return warm.pid != before

    assert run(body)


def test_the_process_is_replaced_when_what_is_installed_changes(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.write("")

    async def body() -> bool:
        async with program.warm() as warm:
            await warm.evaluate()
            before = warm.pid
            monkeypatch.setattr(reload, "_installed", lambda: (("/somewhere/site-packages", 1),))
            await warm.evaluate()
            return warm.pid != before

    assert run(body)


def test_a_killed_process_is_started_again(program: Program) -> None:
    program.write("")

    async def body() -> str:
        async with program.warm() as warm:
            await warm.evaluate()
            assert warm.pid is not None
            os.kill(warm.pid, signal.SIGKILL)
            return (await warm.evaluate()).app.name

    assert run(body) == "hello"


def test_the_current_folder_does_not_stand_in_for_the_standard_library(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program.folder / "socket.py").write_text("raise RuntimeError('the wrong socket')\n")
    (program.folder / "sub").mkdir()
    program.path = program.folder / "sub" / "hello.py"
    program.write("import socket\nsocket.socket\n")
    monkeypatch.chdir(program.folder)

    async def body() -> str:
        async with program.warm() as warm:
            return (await warm.evaluate()).app.name

    assert run(body) == "hello"


@contextlib.asynccontextmanager
async def living(program: Program) -> AsyncIterator[Live]:
    live = Live(loader.parse_ref(str(program.path)), None, reload=True)
    try:
        yield live
    finally:
        await live.close()


def test_a_newer_state_ends_an_evaluation_that_hangs(program: Program) -> None:
    program.write("import pathlib, time\npathlib.Path(__file__).with_name('in').touch()\ntime.sleep(600)\n")

    async def body() -> str:
        async with living(program) as live:
            with contextlib.suppress(errors.Error):
                program.write("raise RuntimeError\n")
                await live.evaluate()  # a first state, so that the file is watched
            program.write("import pathlib, time\npathlib.Path(__file__).with_name('in').touch()\ntime.sleep(600)\n")
            await live.changed()
            running = asyncio.create_task(live.evaluate())
            await loading(program)
            program.write("")
            return (await running).app.name

    assert run(body) == "hello"


def test_a_missing_module_that_appears_is_noticed(program: Program) -> None:
    program.write("import helper\n")

    async def body() -> str:
        async with living(program) as live:
            with pytest.raises(errors.UserCodeError, match="helper"):
                await live.evaluate()
            (program.folder / "helper.py").write_text("")
            await live.changed()
            return (await live.evaluate()).app.name

    assert run(body) == "hello"


def test_a_change_while_the_file_is_evaluated_is_evaluated_again(program: Program) -> None:
    program.write("")

    async def body() -> set[str]:
        async with living(program) as live:
            first = await live.evaluate()
            # The file changes itself while it is loaded, once: what was evaluated is not what is there afterwards.
            program.write(
                """
                import pathlib
                me = pathlib.Path(__file__)
                me.write_text(me.read_text().replace("MARK" + "1", ""))  # MARK1
                """
            )
            await live.changed()
            last = await live.evaluate()
            return {first.app.files[0].sha256, last.app.files[0].sha256}

    assert len(hashes := run(body)) == 2
    assert hashlib.sha256(program.path.read_bytes()).hexdigest() in hashes
