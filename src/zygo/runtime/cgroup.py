"""Control groups: what a container may use, and the certainty that nothing of it is left.

Version 1 hierarchies, writable by root, with one directory per container in each. Where there is none the caller falls
back to resource limits and a watchdog (`zygo doctor` says so).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD_US = 100_000
PIDS_LIMIT = 4096
"""Processes and threads of one container: enough for any server, too few for a fork bomb to hurt the machine."""


@dataclass(frozen=True)
class Limits:
    """Of one container: bytes of memory, cores; None for no limit."""

    memory: int | None = None
    cpu: float | None = None


class Group:
    """The cgroups of one container. Owned directories, removed by `remove` once its processes are gone."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self._paths = paths

    def open_tasks(self) -> list[int]:
        """Descriptors of the `tasks` files; a thread that writes "0" joins. The caller closes them.

        Not `cgroup.procs`: that takes a lock over every thread group of the machine, which costs 3 ms a hierarchy, and a
        process that was just forked has one thread.
        """
        return [os.open(path / "tasks", os.O_WRONLY | os.O_CLOEXEC) for path in self._paths.values()]

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed something here for want of memory."""
        path = self._paths.get("memory")
        try:
            text = (path / "memory.oom_control").read_text() if path else ""
        except OSError:
            return False
        return any(line.split() == ["oom_kill", n] and n != "0" for line in text.splitlines() for n in line.split()[1:])

    def remove(self) -> bool:
        """Remove the directories; False when the kernel still counts a process in one (then try again)."""
        gone = True
        for path in self._paths.values():
            try:
                path.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone


class Cgroups:
    """The server's part of the hierarchies: `<its own cgroup>/zygo-<name>/` in each."""

    def __init__(self, roots: dict[str, Path]) -> None:
        self._roots = roots

    @classmethod
    def open(cls, name: str) -> Cgroups | None:
        """Prepare the parent directories and remove what a killed server left; None when this user may not."""
        roots: dict[str, Path] = {}
        try:
            own = _own_paths()
            for controller in _CONTROLLERS:
                if controller not in own:
                    return None
                root = own[controller] / f"zygo-{name}"
                root.mkdir(exist_ok=True)
                roots[controller] = root
        except OSError:
            return None
        groups = cls(roots)
        groups.sweep()
        return groups

    def create(self, identifier: str, limits: Limits) -> Group:
        """The cgroups of one container. Raises OSError."""
        paths = {controller: root / identifier for controller, root in self._roots.items()}
        for path in paths.values():
            path.mkdir(exist_ok=True)
        (paths["pids"] / "pids.max").write_text(str(PIDS_LIMIT))
        if limits.memory is not None:
            (paths["memory"] / "memory.limit_in_bytes").write_text(str(limits.memory))
        if limits.cpu is not None:
            (paths["cpu"] / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (paths["cpu"] / "cpu.cfs_quota_us").write_text(str(max(1000, int(limits.cpu * _PERIOD_US))))
        return Group(paths)

    def sweep(self) -> None:
        """Remove every container's directories that hold no process."""
        for root in self._roots.values():
            for path in root.iterdir() if root.is_dir() else []:
                if path.is_dir():
                    try:
                        path.rmdir()
                    except OSError:
                        continue

    def close(self) -> None:
        """Remove the parent directories as well."""
        self.sweep()
        for root in self._roots.values():
            try:
                root.rmdir()
            except OSError:
                continue


def _own_paths() -> dict[str, Path]:
    """This process's version 1 cgroup of each controller."""
    mounted = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup":
            for option in fields[3].split(","):
                mounted[option] = Path(fields[1])
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounted:
                own[controller] = mounted[controller] / path.lstrip("/")
    return own
