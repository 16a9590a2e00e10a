"""What a container may use, and the control groups that keep it to that: what both versions of them have in common."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PERIOD_US = 100_000
"""The scheduler's period in which a cpu limit holds: the kernel's default."""

PIDS_LIMIT = 4096
"""Processes and threads of one container: enough for any server, too few for a fork bomb to hurt the machine."""

REMOVE_TRIES, REMOVE_PAUSE = 20, 0.05
"""Seconds. Nothing tells when a version 1 group is empty."""


@dataclass(frozen=True)
class Limits:
    """Of one container: bytes of memory, cores; None for no limit."""

    memory: int | None = None
    cpu: float | None = None

    @property
    def quota_us(self) -> int:
        """Microseconds of cpu time in each PERIOD_US; the kernel takes no less than 1000."""
        return max(1000, int((self.cpu or 0) * PERIOD_US))


@dataclass(frozen=True)
class Refusal:
    """Why no control groups can be made, and what would change that."""

    detail: str
    mend: str


class Group(ABC):
    """The control group of one container, or of one zygote. Removed by `remove` once its processes are gone.

    Arguments:
        paths: its directories; version 1 has one for each controller.
    """

    join_file = "cgroup.procs"

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)

    def open_join(self) -> list[int]:
        """Descriptors of the files to which a process writes "0" to join. The caller closes them."""
        fds: list[int] = []
        try:
            for path in self.paths:
                fds.append(os.open(path / self.join_file, os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    @abstractmethod
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed something here for want of memory."""

    def kill(self) -> None:
        """Kill whatever is in it. What forks faster than it is killed may be left: `remove` says so, then again."""
        for path in self.paths:
            for pid in _pids(path):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Remove the directories; False when the kernel still counts a process in one (then try again)."""
        return all([_remove(path) for path in self.paths])


class Cgroups(ABC):
    """The server's part of the hierarchies: directories `zygo-<name>` that hold one group for each container.

    Arguments:
        roots: those directories.
        controllers: what is kept to its limits here, of memory, pids and cpu.
    """

    version = 0

    def __init__(self, roots: Iterable[Path], controllers: Iterable[str]) -> None:
        self.roots = tuple(roots)
        self.controllers = tuple(controllers)

    @abstractmethod
    def create(self, identifier: str, limits: Limits) -> Group:
        """The group of one container. Raises OSError."""

    def sweep(self) -> None:
        """Remove every group that holds no process: a killed server left them."""
        for root in self.roots:
            for path in root.iterdir() if root.is_dir() else []:
                if path.is_dir():
                    _remove(path)

    def close(self) -> None:
        """Remove the server's own directories as well."""
        self.sweep()
        for root in self.roots:
            _remove(root)

    def describe(self) -> str:
        """For people: what is limited, and by which version."""
        return f"cgroups v{self.version} ({', '.join(self.controllers)})"


async def remove_group(group: Group) -> None:
    """Kill what is left in a group whose first process is gone, and remove it.

    A sandbox leaves nothing; without one, a process that took a session of its own is still there. The kernel counts those
    of a dying pid namespace for some milliseconds more, so it is tried again for a second at most; the next server's start
    sweeps what is left.
    """
    for _ in range(REMOVE_TRIES):
        if group.remove():
            return
        group.kill()
        await asyncio.sleep(REMOVE_PAUSE)


def _pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _remove(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
