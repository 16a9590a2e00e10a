"""The runner of the suite, on projects of a few lines: a second try for chance, and for nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import runner
from runner import Outcome
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNER = Path(runner.__file__)

CONFTEST = """
import pathlib

import pytest


@pytest.fixture
def tries(request):
    'How often this test has been tried, this time included.'
    file = pathlib.Path(__file__).with_name(request.node.name + ".tries")
    with file.open("a") as notes:
        notes.write("x")
    return len(file.read_text())
"""

FINE = """
def test_fine(tries):
    assert tries == 1
"""

BY_CHANCE = """
import pytest


@pytest.mark.parametrize("case", ["a b", "c::d"])
def test_by_chance(tries, case):
    assert tries == 2
"""

ALONE = """
import pytest


@pytest.mark.alone
def test_alone(tries, request):
    assert not hasattr(request.config, "workerinput")
    assert tries == 2
"""

NEVER = """
def test_never(tries):
    assert tries == 0
"""

MANY = """
import pytest


@pytest.mark.parametrize("number", range(6))
def test_many(tries, number):
    assert tries == 2
"""

TEARDOWN = """
import pytest


@pytest.fixture
def something(tries):
    yield
    assert tries == 2


def test_leaves_something(something):
    pass
"""

HANGS = """
import pathlib
import subprocess
import time


def test_hangs():
    child = subprocess.Popen(["sleep", "1000"])
    try:
        pathlib.Path("in").write_text(str(child.pid))
        time.sleep(1000)
    finally:
        child.kill()
        child.wait()
        pathlib.Path("out").touch()
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., list[str]]:
    """Write a project of these test files; the command that runs it all."""

    def make(*files: str) -> list[str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -ra\nmarkers = alone: last\n")
        (tmp_path / "conftest.py").write_text(CONFTEST)
        for number, text in enumerate(files):
            (tmp_path / f"test_{number}.py").write_text(text)
        return [sys.executable, str(RUNNER)]

    return make


def environ() -> dict[str, str]:
    """Of a pytest of its own, with no more plugins than it needs: hypothesis alone takes longer to import than all else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100
    )


def test_all_that_passes_is_run_once(project: Callable[..., list[str]], tmp_path: Path) -> None:
    done = run(project(FINE, "def test_other(): pass\n"), tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert "econd try" not in done.stdout


def test_what_passes_in_the_second_try_is_named_and_is_no_failure(
    project: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = run(project(FINE, BY_CHANCE, ALONE, TEARDOWN), tmp_path)
    assert done.returncode == 0, done.stdout
    [line] = [line for line in done.stdout.splitlines() if "passed in the second try only: " in line]
    for name in ("test_by_chance[a b]", "test_by_chance[c::d]", "test_alone", "test_leaves_something"):
        assert f"::{name}" in line
    assert "test_fine" not in line


def test_what_fails_twice_has_failed(project: Callable[..., list[str]], tmp_path: Path) -> None:
    done = run(project(FINE, BY_CHANCE, NEVER), tmp_path)
    assert done.returncode == 1, done.stdout
    assert "did not pass the second try either: test_2.py::test_never\n" in done.stdout
    assert "passed in the second try only: test_1.py::test_by_chance[a b]" in done.stdout


def test_more_failures_than_chance_has_are_final(project: Callable[..., list[str]], tmp_path: Path) -> None:
    done = run(project(FINE, MANY), tmp_path)
    assert done.returncode == 1, done.stdout
    assert "6 tests failed: too many for chance" in done.stdout
    assert {len(file.read_text()) for file in tmp_path.glob("*.tries")} == {1}


@pytest.mark.parametrize(
    "broken",
    ["import no_such_module_anywhere\n", "import pytest\n\n\n@pytest.mark.unheard_of\ndef test_it(): ...\n"],
    ids=["import", "marker"],
)
def test_a_file_that_cannot_be_collected_ends_it_at_once(
    project: Callable[..., list[str]], tmp_path: Path, broken: str
) -> None:
    done = run(project(BY_CHANCE, broken), tmp_path)
    assert done.returncode != 0, done.stdout
    assert "could not be collected: test_1.py\n" in done.stdout
    assert "Second try" not in done.stdout
    assert "need the machine for themselves" not in done.stdout


def test_a_fault_of_pytest_ends_it_at_once(project: Callable[..., list[str]], tmp_path: Path) -> None:
    command = project(FINE)
    (tmp_path / "conftest.py").write_text(CONFTEST + "\n\ndef pytest_runtestloop():\n    raise RuntimeError('oops')\n")
    done = run(command, tmp_path)
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR, done.stdout
    assert "pytest ended with status 3 before every test was run" in done.stdout


def test_no_test_at_all_is_no_success(project: Callable[..., list[str]], tmp_path: Path) -> None:
    assert run(project("\n"), tmp_path).returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_arguments_mean_one_process_and_one_try(project: Callable[..., list[str]], tmp_path: Path) -> None:
    done = run([*project(FINE, BY_CHANCE), "test_1.py"], tmp_path)
    assert done.returncode == 1, done.stdout
    assert "2 failed" in done.stdout
    assert "workers" not in done.stdout
    assert run([*project(FINE), "test_0.py", "--no-such-option"], tmp_path).returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_ctrl_c_ends_everything(project: Callable[..., list[str]], tmp_path: Path, how: str) -> None:
    process = subprocess.Popen(
        project(HANGS),
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until(lambda: (tmp_path / "in").exists() and (tmp_path / "in").read_text(), what="a test that runs")
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output.decode()
    until((tmp_path / "out").exists, 20, "the test's own end")
    assert b"Second try" not in output
    assert not Path(f"/proc/{(tmp_path / 'in').read_text()}").exists()


@pytest.mark.parametrize(
    ("outcome", "final"),
    [
        (Outcome(0), False),
        (Outcome(5), False),
        (Outcome(1, failed=("a",)), False),
        (Outcome(1), True),  # something else than a test failed
        (Outcome(0, failed=("a",)), True),
        (Outcome(2, failed=("a",)), True),
        (Outcome(3), True),
        (Outcome(-9), True),
        (Outcome(1, failed=("a",), broken=("b",)), True),
    ],
)
def test_only_a_run_that_went_to_its_end_has_a_second_try(outcome: Outcome, final: bool) -> None:
    assert outcome.final is final


def test_a_test_that_is_not_run_in_the_second_try_has_not_passed() -> None:
    assert runner.judged(["a", "b"], Outcome(0, passed=frozenset({"a"}))) == 1
    assert runner.judged(["a"], Outcome(0, passed=frozenset({"a"}))) == 0
    assert runner.judged(["a"], Outcome(-11)) == -11
