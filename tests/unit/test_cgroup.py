"""Control groups on the real hierarchies; skipped where this user has none."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from zygo.runtime import cgroup
from zygo.runtime.cgroup import Cgroups, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = Cgroups.open(f"test-{uuid.uuid4().hex[:8]}")
    if found is None:
        pytest.skip("this user can make no control groups here")
    yield found
    found.close()
    assert not any(root.exists() for root in found._roots.values())


def child(fds: list[int], code: str) -> subprocess.Popen[bytes]:
    """A process that joins the groups behind `fds` and then runs `code`."""
    join = f"import os\nfor fd in {fds}: os.write(fd, b'0')\n"
    return subprocess.Popen(
        [sys.executable, "-c", join + code], pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_limits_are_set_and_gone_after_the_end(groups: Cgroups) -> None:
    group = groups.create("c-1", Limits(memory=64 * 2**20, cpu=0.5))
    paths = dict(group._paths)
    assert (paths["memory"] / "memory.limit_in_bytes").read_text().strip() == str(64 * 2**20)
    assert (paths["pids"] / "pids.max").read_text().strip() == str(cgroup.PIDS_LIMIT)
    assert (paths["cpu"] / "cpu.cfs_quota_us").read_text().strip() == "50000"
    assert group.remove()
    assert group.remove(), "a second time is fine"
    assert not any(path.exists() for path in paths.values())


def test_a_group_with_a_process_is_not_removed_and_then_is(groups: Cgroups) -> None:
    group = groups.create("c-1", Limits())
    fds = group.open_tasks()
    process = child(fds, "import sys; print('in', flush=True); sys.stdin.read()")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"in\n"
    for fd in fds:
        os.close(fd)
    assert not group.remove()
    process.stdin.close()
    process.wait()
    process.stdout.close()
    assert group.remove()
    assert not group.out_of_memory()


def test_memory_over_the_limit_kills_and_is_known(groups: Cgroups) -> None:
    group = groups.create("c-1", Limits(memory=32 * 2**20))
    fds = group.open_tasks()
    process = child(fds, "x = bytearray(200 * 2**20)")
    process.communicate()
    for fd in fds:
        os.close(fd)
    assert process.returncode == -9
    assert group.out_of_memory()
    assert group.remove()


def test_sweeping_removes_what_a_killed_server_left_but_nothing_that_runs(groups: Cgroups) -> None:
    left = groups.create("c-old", Limits())
    busy = groups.create("c-busy", Limits())
    fds = busy.open_tasks()
    process = child(fds, "import sys; print('in', flush=True); sys.stdin.read()")
    assert process.stdout is not None
    process.stdout.readline()
    groups.sweep()
    assert not any(path.exists() for path in left._paths.values())
    assert all(path.exists() for path in busy._paths.values())
    process.communicate()
    for fd in fds:
        os.close(fd)
    assert busy.remove()


def test_no_hierarchies_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_own_paths", dict)
    assert Cgroups.open("test-none") is None


def test_hierarchies_of_somebody_else_mean_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = {name: tmp_path / "absent" / name for name in ("memory", "pids", "cpu")}
    monkeypatch.setattr(cgroup, "_own_paths", lambda: absent)
    assert Cgroups.open("test-none") is None
