"""The whole suite: several processes at once, then what needs the machine for itself, then a second try.

    python tests/runner.py                 as scripts/test does without arguments
    python tests/runner.py ARGUMENT...     pytest with these arguments, in one process and with one try

The tests run real servers, sandboxes and browsers, on machines that stall now and then: one test of 3,000 that fails by
chance is no reason to throw the work of an hour away. So up to SECOND_TRIES tests that failed are run once more, each in
peace, and those that pass only then are named at the end: they are to be mended. More failures than that are no chance,
and what keeps pytest from running the tests at all (an error while they are collected, Ctrl-C) is final at once.

Exit status: 0 when every test passed, in the first try or the second; else pytest's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

SECOND_TRIES = 5
"""So many failures may be chance."""

PASSED, FAILED, INTERRUPTED, BROKEN, NO_TESTS = 0, 1, 2, 3, 5
"""pytest's exit statuses."""


@dataclass(frozen=True)
class Outcome:
    """One run of pytest.

    status: its exit status.
    passed, failed: node ids. A test whose fixtures fail has failed, before it or after it.
    broken: what kept tests from being run: files that could not be collected.
    """

    status: int
    passed: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether it ended otherwise than by running every test to its end."""
        ran = self.status == FAILED if self.failed else self.status in (PASSED, NO_TESTS)
        return bool(self.broken) or not ran


class Recorder:
    """A plugin that notes in a file what became of each test."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._passed: dict[str, None] = {}
        self._failed: dict[str, None] = {}
        self._broken: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = None
        elif report.when == "call" and report.passed:
            self._passed[report.nodeid] = None

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._broken[report.nodeid] = None
            # One process stops by itself; with several, each runs what it could collect.
            if (several := self._config.pluginmanager.getplugin("dsession")) is not None:
                several.shouldstop = f"{report.nodeid} cannot be collected"

    def pytest_sessionfinish(self) -> None:
        passed = [name for name in self._passed if name not in self._failed]
        found = {"passed": passed, "failed": list(self._failed), "broken": list(self._broken)}
        self._file.write_text(json.dumps(found))


class Runs:
    """Runs pytest in processes of its own, one at a time; SIGINT and SIGTERM end the one that runs, and all after it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        # A terminal sends its Ctrl-C to the child as well, and pytest ends in order by itself. Handled and not ignored:
        # what is ignored would be so in the child too.
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._told)

    def __call__(self, *arguments: str) -> Outcome:
        """Run pytest with these arguments; what became of it."""
        with tempfile.TemporaryDirectory(prefix="zygo-tests-") as folder:
            file = Path(folder, "outcome.json")
            if self._stopped:
                return Outcome(INTERRUPTED)
            self._child = subprocess.Popen([sys.executable, __file__, "--one", str(file), *arguments])
            status = self._child.wait()
            if self._stopped:
                status = status or INTERRUPTED
            try:
                found: dict[str, Any] = json.loads(file.read_text())
            except (OSError, ValueError):  # it did not even begin, or was killed
                return Outcome(status or BROKEN)
        return Outcome(status, frozenset(found["passed"]), tuple(found["failed"]), tuple(found["broken"]))

    def _interrupted(self, *_: object) -> None:
        self._stopped = True

    def _told(self, *_: object) -> None:
        self._stopped = True
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)


def everything(run: Runs, workers: int) -> int:
    """The suite, as described above; the exit status."""
    at_once = ("-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder")
    first = []
    for name, arguments in (
        (f"Tests, {workers} files at a time", (*at_once, "-m", "not alone")),
        ("Tests that need the machine for themselves", ("-m", "alone")),
    ):
        say(name)
        first.append(run(*arguments, "--durations=15"))
        if first[-1].final:
            return ended(first[-1])
    if all(outcome.status == NO_TESTS for outcome in first):
        return NO_TESTS
    failed = list(dict.fromkeys(name for outcome in first for name in outcome.failed))
    if not failed:
        return PASSED
    if len(failed) > SECOND_TRIES:
        say(f"{len(failed)} tests failed: too many for chance, so there is no second try")
        return FAILED
    say(f"Second try, one after the other, of what failed: {', '.join(failed)}")
    return judged(failed, run(*failed))


def judged(failed: Sequence[str], second: Outcome) -> int:
    """What the second try says; the exit status."""
    if second.final:
        return ended(second)
    lucky = [name for name in failed if name in second.passed]
    still = [name for name in failed if name not in second.passed]
    if lucky:
        say("passed in the second try only: " + ", ".join(lucky))
        say("Each of them fails by chance, which hides real faults and costs everyone time. Mend it.")
    if still:
        say("did not pass the second try either: " + ", ".join(still))
        return FAILED
    return PASSED


def ended(outcome: Outcome) -> int:
    """Say why there is no second try; the exit status."""
    if outcome.broken:
        say("could not be collected: " + ", ".join(outcome.broken))
    else:
        say(f"pytest ended with status {outcome.status} before every test was run")
    return outcome.status or FAILED


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def workers() -> int:
    """How many files at a time: tests wait for more than half of their time (two at a time on two cores used 45 % of them), and
    each worker builds its own images."""
    return max(2, min(6, 2 * (os.cpu_count() or 1)))


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    if arguments[:1] == ["--one"]:
        import pytest

        sys.path[0] = os.getcwd()  # as `python -m pytest` has it
        return int(pytest.main(list(arguments[2:]), plugins=[Recorder(Path(arguments[1]))]))
    run = Runs()
    return run(*arguments).status if arguments else everything(run, workers())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
