"""Version 2 control groups: one hierarchy, whose subtrees a privileged process delegates.

    <subtree>/server                 this process: a group whose children are limited may hold no process itself
    <subtree>/zygo-<name>/<group>    one for each container and each zygote

The subtree is, first that fits: this process's own group, when it was delegated to us (a systemd unit with Delegate=yes) or
holds nobody else; for root, the top of the hierarchy, where nothing has to move.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from zygo.runtime.limits import PERIOD_US, PIDS_LIMIT, Cgroups, Group, Limits, Refusal

_NEEDED = ("memory", "pids")
_WANTED = (*_NEEDED, "cpu")
"""cpu can be missing: systemd before 254 delegates only the other two to a user's own manager."""

_MOVES = 20
"""How often it is tried to empty a group whose processes fork meanwhile."""


@dataclass(frozen=True)
class Hierarchy:
    """Where the hierarchy is mounted, and this process's path in it ("/" or "/user.slice/...")."""

    mount: Path
    own: str

    @property
    def group(self) -> Path:
        """This process's own group."""
        return self.mount / self.own.lstrip("/")


class Group2(Group):
    """One directory.

    Joined through `cgroup.procs`, the only way between groups with controllers. It waits for every process that is just
    forking, one RCU grace period: about 10 ms, which a parked spare has behind it.
    """

    def out_of_memory(self) -> bool:
        """See Group.out_of_memory."""
        counts = dict(line.split() for line in _read(self.paths[0] / "memory.events").splitlines())
        return counts.get("oom_kill", "0") != "0" or counts.get("oom_group_kill", "0") != "0"

    def kill(self) -> None:
        """See Group.kill; since Linux 5.14 the kernel does it at once, forks under way included."""
        try:
            (self.paths[0] / "cgroup.kill").write_text("1")
        except OSError:
            super().kill()


class Cgroups2(Cgroups):
    """`<subtree>/zygo-<name>/`."""

    version = 2

    def create(self, identifier: str, limits: Limits) -> Group2:
        """See Cgroups.create."""
        path = self.roots[0] / identifier
        path.mkdir(exist_ok=True)
        if "pids" in self.controllers:
            (path / "pids.max").write_text(str(PIDS_LIMIT))
        if "memory" in self.controllers and limits.memory is not None:
            (path / "memory.max").write_text(str(limits.memory))
            # All of it or nothing: a container whose server goes on without its workers answers nobody.
            (path / "memory.oom.group").write_text("1")
            if (path / "memory.swap.max").exists():  # a kernel that does not count swap has no such file
                (path / "memory.swap.max").write_text("0")
        if "cpu" in self.controllers and limits.cpu is not None:
            (path / "cpu.max").write_text(f"{limits.quota_us} {PERIOD_US}")
        return Group2([path])


def open_version2(name: str, hierarchy: Hierarchy | None = None) -> Cgroups2 | Refusal:
    """Find a subtree, move this process into a leaf of it where it must, and prepare the server's directory.

    `hierarchy` is found out when it is not given.
    """
    found = hierarchy or find_hierarchy()
    if found is None:
        return Refusal(
            "no version 2 control groups are mounted",
            "" if os.geteuid() else "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    if not os.access(found.group, os.R_OK):
        return Refusal(
            f"this process's control group {found.own} is not to be seen at {found.mount}", "Mount /sys/fs/cgroup anew."
        )
    subtree = _subtree(found)
    if isinstance(subtree, Refusal):
        return subtree
    try:
        return _prepare(subtree, name)
    except OSError as error:
        return Refusal(f"the control group {subtree} cannot be used: {error}", mend())


def _prepare(subtree: Path, name: str) -> Cgroups2 | Refusal:
    missing = [c for c in _NEEDED if c not in _words(subtree / "cgroup.controllers")]
    if missing:
        way = f"Boot with the kernel parameter cgroup_enable={missing[0]}" if _is_top(subtree) else mend()
        return Refusal(f"the control group {subtree} has no {missing[0]} controller", way)
    if not _is_top(subtree):
        _empty_into_leaf(subtree)
    root = subtree / f"zygo-{name}"
    root.mkdir(exist_ok=True)
    enabled = [c for c in _WANTED if _enable(subtree, c) and _enable(root, c)]
    missing = [c for c in _NEEDED if c not in enabled]
    if missing:
        root.rmdir()
        return Refusal(f"the {missing[0]} controller cannot be switched on in {subtree}", mend())
    return Cgroups2([root], enabled)


def find_hierarchy() -> Hierarchy | None:
    """The mounted version 2 hierarchy and this process's place in it; None when there is none."""
    own = [line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")]
    mounts = [line.split() for line in _read("/proc/self/mounts").splitlines()]
    points = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    return Hierarchy(Path(points[0]), own[0]) if own and points else None


def _subtree(hierarchy: Hierarchy) -> Path | Refusal:
    group = hierarchy.group
    if _is_top(group):
        if os.access(group / "cgroup.subtree_control", os.W_OK):
            return group
        return Refusal("version 2 control groups were not delegated to this user", mend())
    ours = os.access(group, os.W_OK) and os.access(group / "cgroup.subtree_control", os.W_OK)
    if ours and (is_delegated(group) or set(_words(group / "cgroup.procs")) <= {str(os.getpid())}):
        return group
    if os.access(hierarchy.mount / "cgroup.subtree_control", os.W_OK) and _is_top(hierarchy.mount):
        return hierarchy.mount
    why = "is shared with other programs" if ours else "was not delegated to this user"
    return Refusal(f"the server's control group {hierarchy.own} {why}", mend())


def is_delegated(group: Path) -> bool:
    """Whether systemd has marked `group` as one that it leaves to whoever runs there."""
    for attribute in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(group, attribute) == b"1":
                return True
    return False


def mend() -> str:
    """What makes control groups usable for this user."""
    if os.geteuid() == 0:
        return "Run the server in a group of its own: systemd-run -p Delegate=yes zygo server start --foreground"
    return (
        "systemd-run --user -p Delegate=yes zygo server start --foreground\n"
        "(Needs systemd's manager of this user, which is there after a normal login or `loginctl enable-linger`.)"
    )


def _is_top(group: Path) -> bool:
    """The top of the hierarchy is the one group without a type, and the one that may hold processes beside children."""
    return not (group / "cgroup.type").exists()


def _empty_into_leaf(subtree: Path) -> None:
    leaf = subtree / "server"
    leaf.mkdir(exist_ok=True)
    for _ in range(_MOVES):
        pids = _words(subtree / "cgroup.procs")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        if not pids:
            return


def _enable(group: Path, controller: str) -> bool:
    if controller in _words(group / "cgroup.subtree_control"):
        return True
    if controller not in _words(group / "cgroup.controllers"):
        return False
    try:
        (group / "cgroup.subtree_control").write_text(f"+{controller}")
    except OSError:
        return False
    return True


def _words(path: Path) -> list[str]:
    return _read(path).split()


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
