"""Version 2 control groups, on a directory tree with the kernel's file names: finding a subtree, moving, limits, refusals.

What needs no controllers (joining, killing, removing) is tried on the real hierarchy, in test_cgroup.py and below.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from zygo.runtime import cgroup2
from zygo.runtime.cgroup2 import Cgroups2, Hierarchy, open_version2
from zygo.runtime.limits import PIDS_LIMIT, Limits, Refusal

ME = str(os.getpid())


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """The top of a hierarchy that nobody may write to: the one group without a type."""
    return make(tmp_path / "cg", top=True)


def make(path: Path, controllers: str = "cpuset cpu io memory pids", procs: str = "", *, top: bool = False) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    files = {"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.procs": procs}
    for name, text in {} if top else {"cgroup.type": "domain", **files}.items():
        (path / name).write_text(text)
    return path


def opened(mount: Path, own: str, subtree: str = "") -> Cgroups2:
    """`subtree` is where the server's directory is expected; the kernel fills it when it is made, here we do."""
    top = mount / (subtree or own)[1:]
    make(top / "zygo-t", controllers=(top / "cgroup.controllers").read_text())
    found = open_version2("t", Hierarchy(mount, own))
    assert isinstance(found, Cgroups2), found
    return found


def refused(mount: Path, own: str) -> Refusal:
    found = open_version2("t", Hierarchy(mount, own))
    assert isinstance(found, Refusal), found
    return found


def test_a_group_that_holds_this_process_alone_is_ours(mount: Path) -> None:
    """As in `systemd-run --user --scope -p Delegate=yes`: we move into a leaf, and children get their limits beside it."""
    unit = make(mount / "user.slice" / "zygo.scope", procs=ME)
    groups = opened(mount, "/user.slice/zygo.scope")
    assert groups.roots == (unit / "zygo-t",)
    assert groups.controllers == ("memory", "pids", "cpu")
    assert groups.describe() == "cgroups v2 (memory, pids, cpu)"
    assert (unit / "server" / "cgroup.procs").read_text() == ME
    assert (unit / "cgroup.subtree_control").read_text() == "+cpu"  # the last of three writes: the kernel adds them up
    assert (unit / "zygo-t" / "cgroup.subtree_control").read_text() == "+cpu"
    assert not (mount / "server").exists()


def test_limits_have_the_kernels_names(mount: Path) -> None:
    make(mount / "unit", procs=ME)
    groups = opened(mount, "/unit")
    path = groups.roots[0] / "c-1"
    path.mkdir()
    (path / "memory.swap.max").write_text("max")
    group = groups.create("c-1", Limits(memory=64 * 2**20, cpu=0.5))
    wrote = {file.name: file.read_text() for file in path.iterdir()}
    assert wrote == {
        "pids.max": str(PIDS_LIMIT),
        "memory.max": str(64 * 2**20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "50000 100000",
    }
    assert not group.out_of_memory()
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not group.out_of_memory(), "it met its limit, and something could be reclaimed"
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert group.out_of_memory()
    other = groups.create("c-2", Limits())
    assert {file.name for file in other.paths[0].iterdir()} == {"pids.max"}


def test_without_the_cpu_controller_the_others_hold(mount: Path) -> None:
    """What Debian 12 delegates to a user's own manager."""
    make(mount / "unit", controllers="memory pids", procs=ME)
    groups = opened(mount, "/unit")
    # Writing "+cpu" fails on a kernel; a plain file takes anything, so what is not offered is looked up.
    assert "cpu" not in groups.controllers
    path = groups.create("c-1", Limits(memory=2**20, cpu=1.0)).paths[0]
    assert not (path / "cpu.max").exists()


def test_a_delegated_unit_is_emptied_into_a_leaf(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit's start script, uv, and so on stand in the group beside the server."""
    unit = make(mount / "zygo.service", procs=f"1\n{ME}")
    moved: list[str] = []
    monkeypatch.setattr(cgroup2, "is_delegated", lambda group: group == unit)
    real = Path.write_text

    def write(path: Path, text: str, *args: object) -> int:
        if path == unit / "server" / "cgroup.procs":
            moved.append(text)
            real(unit / "cgroup.procs", "\n".join(p for p in ("1", ME) if p not in moved))
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", write)
    opened(mount, "/zygo.service")
    assert moved == ["1", ME]


def test_root_without_a_group_of_its_own_uses_the_top(mount: Path) -> None:
    """No systemd: the server stays where it is, beside others; nothing has to move."""
    for name, text in (("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", "memory pids")):
        (mount / name).write_text(text)
    make(mount / "session", procs=f"1\n{ME}")
    groups = opened(mount, "/session", "/")
    assert groups.roots == (mount / "zygo-t",)
    assert not (mount / "session" / "server").exists()
    assert not (mount / "server").exists()
    assert opened(mount, "/").roots == groups.roots


def test_a_group_shared_with_other_programs_is_left_alone(mount: Path) -> None:
    make(mount / "session", procs=f"1\n{ME}")
    why = refused(mount, "/session")
    assert "shared with other programs" in why.detail
    assert "systemd-run" in why.mend
    assert "Delegate=yes" in why.mend
    assert not (mount / "session" / "server").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_group_of_somebody_else_is_refused(mount: Path) -> None:
    (make(mount / "session", procs=ME)).chmod(0o555)
    assert "not delegated" in refused(mount, "/session").detail


def test_what_is_not_there_is_named(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(mount / "unit", controllers="cpu pids", procs=ME)
    assert "has no memory controller" in refused(mount, "/unit").detail
    assert "not to be seen" in refused(mount, "/elsewhere").detail
    (mount / "cgroup.controllers").write_text("hugetlb")
    (mount / "cgroup.subtree_control").write_text("")
    assert "cgroup_enable=memory" in refused(mount, "/").mend
    monkeypatch.setattr(cgroup2, "find_hierarchy", lambda: None)
    none = open_version2("t")
    assert isinstance(none, Refusal)
    assert "no version 2" in none.detail


MOVES = """
import os, sys
from pathlib import Path
from zygo.runtime import cgroup2
cgroup2._NEEDED = cgroup2._WANTED = ()
group = Path(sys.argv[1])
(group / "cgroup.procs").write_text("0")
found = cgroup2.open_version2("real")
assert isinstance(found, cgroup2.Cgroups2), found
print(cgroup2.find_hierarchy().own, found.roots[0].relative_to(group), flush=True)
found.close()
sys.stdin.read()
"""


def test_the_server_moves_into_a_leaf_of_the_real_hierarchy() -> None:
    """On the kernel's own tree; without controllers, since version 1 may have them all."""
    hierarchy = cgroup2.find_hierarchy()
    if hierarchy is None or not os.access(hierarchy.mount, os.W_OK):
        pytest.skip("this user can make no version 2 control groups here")
    group = hierarchy.mount / f"test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", MOVES, str(group)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        own, root = process.stdout.readline().split()
        assert own == f"/{group.name}/server"
        assert root == "zygo-real"
        assert (group / "cgroup.procs").read_text() == ""
        process.communicate()
        assert [child.name for child in group.iterdir() if child.is_dir()] == ["server"]
    finally:
        for path in [*(child for child in group.iterdir() if child.is_dir()), group]:
            path.rmdir()
