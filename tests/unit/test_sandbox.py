"""What a sandbox shows, as arguments: nothing of the host that was not asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zygo.guest import isolate
from zygo.runtime import launch
from zygo.runtime.sandbox import SANDBOX_UID, SandboxPlan, bubblewrap_command, write_etc


def plan(tmp_path: Path, *, share_network: bool = False) -> SandboxPlan:
    write_etc(tmp_path / "etc", isolated_network=True)
    return SandboxPlan(
        binds=(Path("/opt/python"), Path("/data/images/abc/venv")),
        etc=tmp_path / "etc",
        revisions=Path("/data/revisions"),
        environment={"PATH": "/usr/bin", "HOME": "/root"},
        share_network=share_network,
    )


def shown(command: list[str]) -> dict[str, str]:
    """Where each host path appears, for every kind of bind."""
    binds = ("--bind", "--ro-bind", "--dev-bind", "--ro-bind-try", "--bind-try")
    return {command[i + 2]: command[i + 1] for i, word in enumerate(command) if word in binds}


def test_only_the_system_and_what_was_asked_for_is_shown(tmp_path: Path) -> None:
    command = bubblewrap_command(plan(tmp_path), "/usr/bin/bwrap", ["python", "main.py"], as_root=False)
    places = shown(command)
    assert places["/opt/python"] == "/opt/python"
    assert places["/data/images/abc/venv"] == "/data/images/abc/venv"
    assert places["/.zygo/revisions"] == "/data/revisions"
    assert places["/etc"] == str(tmp_path / "etc")
    for target in places:
        assert target.startswith(("/usr", "/bin", "/sbin", "/lib", "/etc", "/opt/python", "/data/images/abc", "/.zygo"))
    assert not {"/", "/home", "/root", "/run", "/var", "/tmp", "/proc", "/sys", "/dev", "/data"} & set(places)
    assert not {"--bind", "--dev-bind"} & set(command), "nothing of the host can be written to"
    assert command[command.index("--") + 1 :] == ["python", "main.py"]


def test_every_namespace_is_its_own_and_it_dies_with_the_server(tmp_path: Path) -> None:
    command = bubblewrap_command(plan(tmp_path), "bwrap", ["x"], as_root=False)
    for word in ("user", "pid", "ipc", "uts", "net"):
        assert f"--unshare-{word}" in command
    assert {"--die-with-parent", "--new-session", "--clearenv"} <= set(command)
    shared = bubblewrap_command(plan(tmp_path, share_network=True), "bwrap", ["x"], as_root=False)
    assert "--unshare-net" not in shared


def test_the_environment_is_only_what_the_plan_says(tmp_path: Path) -> None:
    command = bubblewrap_command(plan(tmp_path), "bwrap", ["x"], as_root=False)
    names = {command[i + 1]: command[i + 2] for i, word in enumerate(command) if word == "--setenv"}
    assert names == {"PATH": "/usr/bin", "HOME": "/root"}


def test_as_root_a_launcher_gives_up_uid_0_first(tmp_path: Path) -> None:
    command = bubblewrap_command(plan(tmp_path), "/usr/bin/bwrap", ["x"], as_root=True)
    assert command[:3] == [sys.executable, "-I", "-S"]
    assert command[3] == launch.__file__
    options = json.loads(command[4])
    assert options["uid"] == options["gid"] == SANDBOX_UID
    assert options["sources"][-1] == "/data/revisions"
    assert command[5] == "/usr/bin/bwrap"
    places = shown(command[5:])
    assert places["/opt/python"] == f"{options['stage']}/0"
    assert places["/.zygo/revisions"] == f"{options['stage']}/{len(options['sources']) - 1}"


def test_etc_knows_no_user_of_the_host(tmp_path: Path) -> None:
    write_etc(tmp_path / "a", isolated_network=True)
    write_etc(tmp_path / "b", isolated_network=False)
    names = {line.split(":")[0] for line in (tmp_path / "a" / "passwd").read_text().splitlines()}
    assert names == {"root", "nobody"}
    assert not (tmp_path / "a" / "shadow").exists()
    assert (tmp_path / "a" / "resolv.conf").read_text() == "nameserver 10.0.2.3\n"
    assert (tmp_path / "b" / "resolv.conf").read_text() == Path("/etc/resolv.conf").read_text()


def test_the_filter_jumps_only_forward_and_ends_in_a_verdict() -> None:
    program = isolate._seccomp_program()
    assert program is not None
    instructions = [program.filters[i] for i in range(program.length)]
    assert instructions[-1].code == 0x06
    for index, each in enumerate(instructions):
        if each.code & 0x07 == 0x05:
            assert index + 1 + max(each.jt, each.jf) < len(instructions)
    assert len(isolate._REFUSED["x86_64"]) == len(set(isolate._REFUSED["x86_64"]))
    assert len(isolate._REFUSED["aarch64"]) == len(set(isolate._REFUSED["aarch64"]))
