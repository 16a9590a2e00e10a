"""The same program in every mode: root and an ordinary user; bubblewrap there, absent, refused and switched off."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zygo.runtime.sandbox import SANDBOX_UID
from zygo.testing.harness import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Serve

pytestmark = pytest.mark.alone
"""An ordinary user has one number of processes, whoever counts them."""

USER = 1500
"""An ordinary user's uid; no account is needed for it."""

PROGRAM = """
import os
import zygo

app = zygo.App("modes")


@app.function(memory=(64, 200))
@zygo.fastapi_endpoint()
def who():
    return {"uid": os.getuid(), "pid": os.getpid(), "cwd": os.getcwd(), "container": os.environ["ZYGO_CONTAINER_ID"]}


@app.function(memory=(64, 200))
@zygo.fastapi_endpoint()
def hog():
    held = []
    while True:
        held.append(bytearray(10**7))
"""

MANY = """

@app.function()
@zygo.fastapi_endpoint()
def threads():
    import threading
    threading.stack_size(65536)
    go, held = threading.Event(), []
    try:
        while len(held) < 6000:
            held.append(threading.Thread(target=go.wait))
            held[-1].start()
    except RuntimeError:
        pass
    go.set()
    return len(held)
"""
"""How many threads a container gets; they count as processes do."""

REFUSED = """#!/bin/sh
echo "bwrap: No permissions to create new namespace" >&2
exit 1
"""


@contextmanager
def mode(user: str, env: dict[str, str | None]) -> Iterator[tuple[Place, Path]]:
    """A place of that user's, and the program in it. As root only, since only root can be everyone."""
    if os.geteuid() != 0:
        pytest.skip("only root can run the command as several users")
    root = Path(tempfile.mkdtemp(prefix="zg"))
    root.chmod(0o755)
    program = root / "program.py"
    program.write_text(PROGRAM + MANY)
    (root / "home").mkdir()
    env = {"HOME": str(root / "home"), **env}
    if user == "root":
        place = Place(env, root=root)
    else:
        python = os.environ.get("TESTS_USER_PYTHON")
        if python is None:
            pytest.skip("scripts/test prepares the environment of an ordinary user (TESTS_USER_PYTHON)")
        for path in (root, program, root / "home"):
            os.chown(path, USER, USER)
        prefix = (shutil.which("setpriv") or "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        place = Place({**env, "UV_CACHE_DIR": None}, python=python, prefix=prefix, root=root)
    with place:
        yield place, program
        place.settle()
        place.stop_server()
        place.settle()


def uid(pid: int) -> int:
    """The kernel's uid of a process."""
    return os.stat(f"/proc/{pid}").st_uid


def path_without_bubblewrap(root: Path) -> str:
    """A search path on which everything is, but bwrap."""
    folder = root / "bin"
    folder.mkdir(exist_ok=True)
    for directory in ("/usr/bin", "/bin"):
        for entry in os.scandir(directory):
            link = folder / entry.name
            if entry.name != "bwrap" and not link.is_symlink():
                link.symlink_to(entry.path)
    return str(folder)


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_sandboxed(user: str) -> None:
    """bubblewrap is there: containers see themselves as root of a machine of their own, and are nobody on the host."""
    with mode(user, {}) as (place, program), place.serve(program) as serve:
        seen = serve.get("who").json()
        assert (seen["uid"], seen["pid"], seen["cwd"]) == (0, 1, "/root")
        status = place.status()
        assert status is not None
        assert status["sandbox"] == "bubblewrap"
        sandboxed = [p.pid for p in place.processes() if p.kind in ("image", "revision", "container")]
        assert len(sandboxed) >= 3
        assert {uid(pid) for pid in sandboxed} == {SANDBOX_UID if user == "root" else USER}
        assert not serve.seen("UNSANDBOXED")
        # By control groups, and where this user can make none by a resource limit in the revision's user namespace.
        assert 1000 < serve.get("threads").json() < 4200
        check_memory_limit(serve)
        assert serve.get("who").json()["container"] == seen["container"]
        assert serve.stop() == 0


@pytest.mark.parametrize(
    ("user", "reason"), [("ordinary", "absent"), ("ordinary", "refused"), ("root", "refused"), ("root", "off")]
)
def test_unsandboxed(user: str, reason: str) -> None:
    """Without bubblewrap everything works, after a warning that says why and what to do; uid 0 is given up even so."""
    with mode(user, {"ZYGO_SANDBOX": "off"} if reason == "off" else {}) as (place, program):
        if reason == "absent":
            place.environment["PATH"] = path_without_bubblewrap(place.root)
        elif reason == "refused":
            folder = place.root / "refusing"
            folder.mkdir()
            (folder / "bwrap").write_text(REFUSED)
            (folder / "bwrap").chmod(0o755)
            place.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
        with place.serve(program) as serve:
            seen = serve.get("who").json()
            assert seen["uid"] == (SANDBOX_UID if user == "root" else USER)
            words = {
                "absent": "UNSANDBOXED.*bubblewrap: not installed.*(apt|doctor)",
                "refused": "UNSANDBOXED.*No permissions to create new namespace.*doctor",
                "off": "sandbox is switched off",
            }
            assert serve.seen(words[reason])
            check_memory_limit(serve)
            assert serve.get("who").status_code == 200
            assert serve.stop() == 0
        shutil.rmtree(place.root / "bin", ignore_errors=True)


def check_memory_limit(serve: Serve) -> None:
    """A memory hog meets its limit: killed by the kernel or the watchdog, or refused more memory by a resource limit."""
    answer = serve.get("hog")
    assert (answer.status_code, "MiB of memory" in answer.text or "MemoryError" in answer.text) in (
        (502, True),
        (500, True),
    )


def test_a_sandbox_can_be_required() -> None:
    """ZYGO_SANDBOX=require: no server without one, and the error says what is missing."""
    with mode("root", {"ZYGO_SANDBOX": "require"}) as (place, program):
        place.environment["PATH"] = path_without_bubblewrap(place.root)
        done = place.zygo("serve", str(program))
        assert done.code == 1
        assert "ZYGO_SANDBOX=require" in done.text
        assert "bubblewrap" in done.text
        shutil.rmtree(place.root / "bin", ignore_errors=True)
