"""Version 1 control groups: a hierarchy for each controller, writable by root."""

from __future__ import annotations

import contextlib
from pathlib import Path

from zygo.runtime.limits import PERIOD_US, PIDS_LIMIT, Cgroups, Group, Limits, Refusal

_CONTROLLERS = ("memory", "pids", "cpu")


class Group1(Group):
    """One directory for each controller.

    Joined through `tasks`, not `cgroup.procs`: that takes a lock over every thread group of the machine, which costs 3 ms a
    hierarchy, and a process that was just forked has one thread.
    """

    join_file = "tasks"

    def __init__(self, paths: dict[str, Path]) -> None:
        super().__init__(paths.values())
        self.by_controller = paths

    def out_of_memory(self) -> bool:
        """See Group.out_of_memory."""
        try:
            text = (self.by_controller["memory"] / "memory.oom_control").read_text()
        except OSError:
            return False
        return any(words[0] == "oom_kill" and words[1] != "0" for line in text.splitlines() if (words := line.split()))


class Cgroups1(Cgroups):
    """`<this process's own cgroup>/zygo-<name>/` in each hierarchy."""

    version = 1

    def __init__(self, roots: dict[str, Path]) -> None:
        super().__init__(roots.values(), roots)
        self._by_controller = roots

    def create(self, identifier: str, limits: Limits) -> Group1:
        """See Cgroups.create."""
        paths = {controller: root / identifier for controller, root in self._by_controller.items()}
        for path in paths.values():
            path.mkdir(exist_ok=True)
        (paths["pids"] / "pids.max").write_text(str(PIDS_LIMIT))
        if limits.memory is not None:
            (paths["memory"] / "memory.limit_in_bytes").write_text(str(limits.memory))
            with contextlib.suppress(OSError):  # a kernel that does not count swap has no such file
                (paths["memory"] / "memory.memsw.limit_in_bytes").write_text(str(limits.memory))
        if limits.cpu is not None:
            (paths["cpu"] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (paths["cpu"] / "cpu.cfs_quota_us").write_text(str(limits.quota_us))
        return Group1(paths)


def open_version1(name: str) -> Cgroups1 | Refusal | None:
    """Prepare the server's directories. None when this machine has no version 1 controllers at all."""
    own = _own_paths()
    if not own.keys() & set(_CONTROLLERS):
        return None
    absent = [controller for controller in _CONTROLLERS if controller not in own]
    if absent:
        return Refusal(
            f"the {absent[0]} controller is not mounted, beside version 1 control groups that are",
            f"sudo mkdir -p /sys/fs/cgroup/{absent[0]} && "
            f"sudo mount -t cgroup -o {absent[0]} cgroup /sys/fs/cgroup/{absent[0]}",
        )
    roots = {controller: own[controller] / f"zygo-{name}" for controller in _CONTROLLERS}
    try:
        for root in roots.values():
            root.mkdir(exist_ok=True)
    except OSError as error:
        return Refusal(
            f"version 1 control groups are root's: {error}",
            "Run the server as root, or boot with version 2 (kernel parameter systemd.unified_cgroup_hierarchy=1).",
        )
    return Cgroups1(roots)


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
