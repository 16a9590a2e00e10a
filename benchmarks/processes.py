"""Child processes that end with us, and what the kernel knows of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SETTLE_SECONDS = 60.0
QUIET = 0.02

END_SECONDS = 15.0
"""For a process to end after it was asked to."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Child:
    """A process that leads its own group, writes to a file, and is killed when this process ends, however that is."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        output: Path,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
                process_group=0,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """What it wrote so far."""
        return self.output.read_text(errors="replace")

    def end(self, number: int = signal.SIGINT) -> None:
        """Ask it to end, then kill its group; returns once it is reaped. May be called twice."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def tree(pid: int) -> set[int]:
    """`pid` and every process below it."""
    try:
        root = psutil.Process(pid)
        return {pid, *(child.pid for child in root.children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()


def generation(pid: int, program: str) -> int:
    """How many processes in a row, from this one upwards, run the Python file whose path ends with `program`."""
    count = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process: psutil.Process | None = psutil.Process(pid)
        while process is not None and any(part.endswith(program) for part in process.cmdline()[1:3]):
            count += 1
            process = process.parent()
    return count


def memory(pids: Iterable[int]) -> float:
    """Proportional set size of these processes together, in MiB: each shared page counts once over all who share it.

    Raises PermissionError when the kernel does not show it.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def resident(pid: int) -> float:
    """Resident set size in MiB, what most tools show as "memory"."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def cpu_share(root: int, seconds: float) -> float:
    """Processor time that the processes below `root`, itself included, use in `seconds` from now, in cores."""
    before = {pid: _cpu_seconds(pid) for pid in tree(root)}
    time.sleep(seconds)
    return sum(_cpu_seconds(pid) - before.get(pid, 0.0) for pid in tree(root)) / seconds


def settle(root: int) -> None:
    """Return once the processes below `root` have become quiet, or after SETTLE_SECONDS."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while cpu_share(root, 1.0) > QUIET and time.monotonic() < deadline:
        pass


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def kill_and_wait(pids: Iterable[int]) -> None:
    """SIGKILL these processes, which are below one of ours, and return once they are gone."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.kill()
            processes.append(process)
    _, alive = psutil.wait_procs(processes, END_SECONDS)
    if alive:
        raise RuntimeError(f"processes {[process.pid for process in alive]} do not end after SIGKILL")
