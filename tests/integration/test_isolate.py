"""The last step before user code, taken by a child of this test: nothing is left to it, and programs still work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zygo.engine import machine as machines
from zygo.engine.images import guest_package

CHILD = """
import errno, os, socket, subprocess, sys, threading
from zygo.guest import isolate

isolate.drop_privileges()
status = {key: value.strip() for key, _, value in (line.partition(":") for line in open("/proc/self/status"))}
assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), status
assert status["NoNewPrivs"] == "1"
assert status["Seccomp"] == "2"

for flags in (isolate.CLONE_NEWUSER, isolate.CLONE_NEWNS, isolate.CLONE_NEWPID, isolate.CLONE_NEWNET):
    try:
        isolate.unshare(flags)
    except OSError as error:
        assert error.errno == errno.EPERM
    else:
        raise AssertionError(hex(flags))
for family in (40, 38, 17, 31):
    try:
        socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        assert error.errno in (errno.EAFNOSUPPORT, errno.EPERM), error
    else:
        raise AssertionError(family)

seen = []
threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(seen) == 20
assert subprocess.run([sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True, text=True).stdout == "42\\n"
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
    socket.socket(family, socket.SOCK_STREAM).close()
socket.getaddrinfo("127.0.0.1", 80)
if os.fork() == 0:
    os._exit(0)
os.wait()
import asyncio, multiprocessing
async def main():
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
asyncio.run(main())
print("done")
"""


def test_after_the_drop_there_is_no_privilege_and_programs_work() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr


def test_the_whole_sequence_works_in_a_sandbox_or_the_refused_step_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    guest = guest_package(tmp_path, "test")
    inspected = machines.inspect(
        tmp_path, guest, sandbox="auto", wanted_network="isolated", max_containers=0, name=f"test-{os.getpid()}"
    )
    machine = asyncio.run(inspected)
    if machine.cgroups is not None:
        machine.cgroups.close()
    if not machine.sandboxed:
        [warning] = [text for text in machine.warnings if "UNSANDBOXED" in text]
        assert "Mend: " in warning
        pytest.skip(warning)


def test_a_bubblewrap_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    guest = guest_package(tmp_path, "test")
    probe = asyncio.run(machines.probe_sandbox(tmp_path, guest, str(fake), is_root=False))
    assert not probe.ok
    assert probe.step == "starting bubblewrap"
    assert "No permissions to create a new namespace" in probe.error


def test_a_sandbox_that_worked_is_expected_to_work_again_and_is_tried_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []
    answers = iter([True, True, False, True])

    async def probe(*_: object, **__: object) -> machines.SandboxProbe:
        tries.append(next(answers))
        return machines.SandboxProbe(tries[-1], "unshare", "refused")

    monkeypatch.setattr(machines, "probe_sandbox", probe)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    def look() -> tuple[machines.Machine, list[machines.Machine]]:
        expected: list[machines.Machine] = []
        found = asyncio.run(
            machines.inspect(
                tmp_path,
                tmp_path,
                sandbox="auto",
                wanted_network="isolated",
                max_containers=0,
                name=f"test-{os.getpid()}",
                expect=expected.append,
            )
        )
        if found.cgroups is not None:
            found.cgroups.close()
        return found, expected

    first, none = look()
    assert (first.sandboxed, none) == (True, [])
    second, [expected] = look()
    assert second is expected
    third, [wrong] = look()
    assert wrong.sandboxed
    assert not third.sandboxed
    assert "unshare: refused" in third.warnings[0]
    fourth, none = look()
    assert (fourth.sandboxed, none) == (True, []), "after a refusal nothing is expected"
    assert tries == [True, True, False, True]
