"""A real manager of systemd's, for an ordinary user, in namespaces of its own: the scope that it delegates is used.

The hierarchy in there is the kernel's; its controllers may all be bound to version 1 out here, so the limits themselves are
left to unit/test_cgroup2.py, and to machines that boot with version 2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zygo
from zygo.runtime.cgroup2 import find_hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.alone

USER = 1500
SYSTEMD = Path("/usr/lib/systemd/systemd")
PYTHON = "/usr/bin/python3"

# Everything is mounted in namespaces that end with their first process, and so does all that runs in them.
MANAGER = """
set -e
echo 0 > "$1/cgroup.procs"
exec unshare --mount --cgroup --pid --fork --mount-proc --kill-child=KILL bash -c '
    set -e
    umount -R -l /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t tmpfs tmpfs /run
    mkdir -p /run/systemd/system
    as="setpriv --reuid $2 --regid $2 --clear-groups"
    $as "$4" --user --log-target=null &
    for _ in $(seq 100); do [ -S "$3/systemd/private" ] && break; sleep 0.1; done
    $as "$5" -c "$6"
    true  # so that bash stays: systemd-run refuses to move the first process
' bash "$@"
"""

FIND = """
import json
from zygo.sdk.delegation import scope_prefix
print(json.dumps(scope_prefix()), flush=True)
import os, sys
prefix = scope_prefix()
if prefix:
    os.execvp(prefix[0], [*prefix, sys.executable, "-c", os.environ["SERVER"]])
"""

SERVER = """
import json, os, time
from zygo.runtime import cgroup2
from zygo.runtime.limits import Limits

cgroup2._NEEDED = cgroup2._WANTED = ()
before = cgroup2.find_hierarchy()
delegated = cgroup2.is_delegated(before.group)
groups = cgroup2.open_version2("test")
assert isinstance(groups, cgroup2.Cgroups2), groups
group = groups.create("c-1", Limits())
fd = group.open_join()[0]
pid = os.fork()
if not pid:
    os.write(fd, b"0")
    time.sleep(1000)
inside = str(pid)
while inside not in (group.paths[0] / "cgroup.procs").read_text().split():
    time.sleep(0.01)
group.kill()
status = os.waitpid(pid, 0)[1]
removed = group.remove()
groups.close()
print(json.dumps({"uid": os.getuid(), "before": before.own, "after": cgroup2.find_hierarchy().own,
                  "delegated": delegated, "status": status, "removed": removed}), flush=True)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    hierarchy = find_hierarchy()
    tools = ("unshare", "setpriv", "systemd-run")
    if os.geteuid() != 0 or hierarchy is None or not SYSTEMD.exists() or not all(map(shutil.which, tools)):
        pytest.skip("needs root, version 2 control groups and systemd's programs")
    path = hierarchy.mount / f"test-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(path / name, USER, USER)
    yield path
    (path / "cgroup.kill").write_text("1")
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


def test_an_ordinary_users_server_gets_a_scope_with_its_own_subtree(group: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="zg"))
    try:
        root.chmod(0o755)
        shutil.copytree(Path(zygo.__file__).parent, root / "src" / "zygo")
        home = root / "home"
        home.mkdir(mode=0o700)
        os.chown(home, USER, USER)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": str(root / "src"),
            "SERVER": SERVER,
        }
        done = subprocess.run(
            ["bash", "-c", MANAGER, "bash", str(group), str(USER), str(home), str(SYSTEMD), PYTHON, FIND],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = done.stdout.splitlines()
        if not (home / "systemd").exists():
            pytest.skip(f"systemd does not start here: {done.stderr[-300:]}")
        assert len(lines) == 2, done
        prefix, found = map(json.loads, lines)
        assert prefix[1:3] == ["--user", "--scope"]
        assert found["uid"] == USER
        assert found["before"].endswith(".scope")
        assert found["after"] == found["before"] + "/server"
        assert found["status"] == 9
        assert found["removed"]
    finally:
        shutil.rmtree(root, ignore_errors=True)
