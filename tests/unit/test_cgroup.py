"""Control groups on the real hierarchies; skipped where this user has none. Version 2's own: test_cgroup2.py."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zygo.runtime import cgroup, cgroup1, cgroup2
from zygo.runtime.cgroup1 import Cgroups1
from zygo.runtime.cgroup2 import Cgroups2
from zygo.runtime.limits import PIDS_LIMIT, Cgroups, Limits, Refusal, remove_group
from zygo.testing.harness import until
from zygo.testing.processes import wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def groups() -> Iterator[Cgroups1]:
    found = cgroup1.open_version1(f"test-{uuid.uuid4().hex[:8]}")
    if not isinstance(found, Cgroups1):
        pytest.skip("this user can make no version 1 control groups here")
    yield found
    found.close()
    assert not any(root.exists() for root in found.roots)


@pytest.fixture(params=["v1", "v2"])
def either(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    """Both versions, of the latter the structure alone: its controllers may all be bound to version 1."""
    found: Cgroups | Refusal | None
    if request.param == "v1":
        found = request.getfixturevalue("groups")
    else:
        hierarchy = cgroup2.find_hierarchy()
        root = hierarchy.mount / f"zygo-test-{uuid.uuid4().hex[:8]}" if hierarchy else None
        try:
            found = Cgroups2([root], []) if root else None
            root.mkdir() if root else None
        except OSError:
            found = None
    if not isinstance(found, Cgroups):
        pytest.skip(f"this user can make no control groups of {request.param} here")
    yield found
    found.close()
    assert not any(root.exists() for root in found.roots)


def child(fds: list[int], code: str) -> subprocess.Popen[bytes]:
    """A process that joins the groups behind `fds` and then runs `code`."""
    join = f"import os\nfor fd in {fds}: os.write(fd, b'0')\n"
    return subprocess.Popen(
        [sys.executable, "-c", join + code], pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_limits_are_set_and_gone_after_the_end(groups: Cgroups1) -> None:
    group = groups.create("c-1", Limits(memory=64 * 2**20, cpu=0.5))
    paths = dict(group.by_controller)
    assert (paths["memory"] / "memory.limit_in_bytes").read_text().strip() == str(64 * 2**20)
    assert (paths["pids"] / "pids.max").read_text().strip() == str(PIDS_LIMIT)
    assert (paths["cpu"] / "cpu.cfs_quota_us").read_text().strip() == "50000"
    assert group.remove()
    assert group.remove(), "a second time is fine"
    assert not any(path.exists() for path in paths.values())


def test_a_group_with_a_process_is_not_removed_and_then_is(either: Cgroups) -> None:
    group = either.create("c-1", Limits())
    fds = group.open_join()
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
    fds = group.open_join()
    process = child(fds, "x = bytearray(200 * 2**20)")
    process.communicate()
    for fd in fds:
        os.close(fd)
    assert process.returncode == -9
    assert group.out_of_memory()
    assert group.remove()


def test_sweeping_removes_what_a_killed_server_left_but_nothing_that_runs(either: Cgroups) -> None:
    left = either.create("c-old", Limits())
    busy = either.create("c-busy", Limits())
    fds = busy.open_join()
    process = child(fds, "import sys; print('in', flush=True); sys.stdin.read()")
    assert process.stdout is not None
    process.stdout.readline()
    either.sweep()
    assert not any(path.exists() for path in left.paths)
    assert all(path.exists() for path in busy.paths)
    process.communicate()
    for fd in fds:
        os.close(fd)
    assert busy.remove()


BOMB = """
import os, sys
print("in", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_a_fork_bomb_is_bounded_and_killed_whole(groups: Cgroups1) -> None:
    """With the limit of a container, by whom forks on every one of its processors; the group is empty within a second."""
    group = groups.create("c-1", Limits())
    (group.by_controller["pids"] / "pids.max").write_text("200")
    fds = group.open_join()
    process = child(fds, BOMB)
    for fd in fds:
        os.close(fd)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    events = group.by_controller["pids"] / "pids.events"
    until(lambda: "max 0" not in events.read_text(), 20.0, "the limit being met")
    assert int((group.by_controller["pids"] / "pids.current").read_text()) <= 200

    asyncio.run(remove_group(group))
    process.communicate()
    assert not any(path.exists() for path in group.paths)


def test_what_left_its_session_is_killed_with_the_group(either: Cgroups) -> None:
    group = either.create("c-1", Limits())
    fds = group.open_join()
    code = """
import os, time
if not os.fork():
    os.setsid()
    print(os.getpid(), flush=True)
    time.sleep(1000)
"""
    process = child(fds, code)
    for fd in fds:
        os.close(fd)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.wait()

    asyncio.run(remove_group(group))
    assert wait_gone([pid])
    process.communicate()
    assert not any(path.exists() for path in group.paths)


def test_version_one_comes_first_and_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    second = Refusal("no version 2 control groups are mounted", "")
    monkeypatch.setattr(cgroup, "open_version2", lambda name: second)
    monkeypatch.setattr(cgroup1, "_own_paths", dict)
    assert cgroup.open_cgroups("test-none") is second
    monkeypatch.setattr(cgroup1, "_own_paths", lambda: {"memory": tmp_path, "pids": tmp_path})
    refused = cgroup.open_cgroups("test-none")
    assert isinstance(refused, Refusal)
    assert "cpu controller is not mounted" in refused.detail
    assert "mount -t cgroup -o cpu" in refused.mend


def test_hierarchies_of_somebody_else_mean_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = {name: tmp_path / "absent" / name for name in ("memory", "pids", "cpu")}
    monkeypatch.setattr(cgroup1, "_own_paths", lambda: absent)
    monkeypatch.setattr(cgroup, "open_version2", lambda name: Refusal("none", ""))
    refused = cgroup.open_cgroups("test-none")
    assert isinstance(refused, Refusal)
    assert "root's" in refused.detail


def test_the_attempt_as_a_command_leaves_nothing() -> None:
    """What `zygo doctor` runs."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        [sys.executable, "-m", "zygo.runtime.cgroup", name], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["detail"]
    assert found["controllers"] if found["ok"] else found["mend"]
    assert not list(Path("/sys/fs/cgroup").glob(f"**/zygo-{name}"))
