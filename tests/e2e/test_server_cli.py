"""Point 10: the server by hand, its lock, and how it is replaced and ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from e2e.http_kit import HOLD, app_log, burst
from zygo.testing import processes
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = (
    """
import os
import zygo

app = zygo.App("cli")
"""
    + HOLD
    + """

@app.function()
@zygo.fastapi_endpoint()
def who():
    print("was asked")
    return os.environ["ZYGO_CONTAINER_ID"]
"""
)


def write(tmp_path: Path) -> Path:
    path = tmp_path / "cli.py"
    path.write_text(PROGRAM)
    return path


def test_start_status_logs_stop_as_text_and_as_json(fresh_place: Place, tmp_path: Path) -> None:
    place = fresh_place
    none = place.zygo("server", "status")
    assert none.code == 1
    assert "No server runs" in none.text
    assert json.loads(place.zygo("server", "status", "--json").text) == {"running": False}
    assert json.loads(place.zygo("server", "stop", "--json").text) == {"stopped": False}

    started = place.zygo("server", "start")
    assert started.code == 0
    pid = place.server_pid()
    assert f"pid {pid}" in started.text
    assert json.loads(place.zygo("server", "start", "--json").text)["pid"] == pid, "a second start meets the first"

    with place.serve(write(tmp_path)) as serve:
        serve.get("who")
        status = place.zygo("server", "status")
        assert status.code == 0
        assert "cli (serving)" in status.text
        assert f"who => {serve.url('who')}  1 containers, 0 waiting" in status.text
        described = json.loads(place.zygo("server", "status", "--json").text)
        assert described["running"] is True
        assert [app["name"] for app in described["apps"]] == ["cli"]
        until(lambda: "was asked" in app_log(place, "cli"))
    logs = place.zygo("server", "logs")
    assert logs.code == 0
    assert f"(pid {pid})" in logs.text
    assert place.zygo("server", "logs", "-n", "1").lines == logs.lines[-1:]

    stopped = place.zygo("server", "stop", "--json")
    assert json.loads(stopped.text) == {"stopped": True}
    assert pid is not None
    assert processes.wait_gone([pid], 0.5), "stop returns when it is gone"
    after = place.zygo("server", "logs")
    assert after.code == 0
    assert "stopped" in after.lines[-1], "the log can be read without a server"


def server(place: Place, **env: str) -> subprocess.Popen[str]:
    """A server in the foreground, as a service manager would start it."""
    return subprocess.Popen(
        [*place.command, "server", "start", "--foreground"],
        env={**place.environment, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def refused(process: subprocess.Popen[str]) -> str:
    """What a server says that does not start."""
    try:
        text, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, text
    return text


def test_two_servers_never_share_a_data_directory(fresh_place: Place) -> None:
    pid = fresh_place.start_server()
    text = refused(server(fresh_place, ZYGO_RUNTIME_DIR=str(fresh_place.root / "run2")))
    assert f"(pid {pid})" in text
    assert str(fresh_place.data) in text
    assert "ZYGO_DATA_DIR" in text
    assert fresh_place.server_pid() == pid


def test_two_servers_never_share_a_runtime_directory(fresh_place: Place) -> None:
    """The second would take the first one's sockets away."""
    pid = fresh_place.start_server()
    text = refused(server(fresh_place, ZYGO_DATA_DIR=str(fresh_place.root / "data2")))
    assert str(fresh_place.runtime) in text
    assert "ZYGO_RUNTIME_DIR" in text
    assert fresh_place.server_pid() == pid


def test_in_the_foreground_it_tells_what_it_does_and_ends_with_ctrl_c(fresh_place: Place) -> None:
    process = server(fresh_place)
    assert process.stdout is not None
    assert any("serves on" in line for line in iter(process.stdout.readline, ""))
    assert fresh_place.server_pid() is not None
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopped" in rest


def test_commands_that_start_a_server_at_once_meet_the_same_one(fresh_place: Place) -> None:
    started = [
        subprocess.Popen(
            [*fresh_place.command, "server", "start", "--json"],
            env=fresh_place.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], answers
    assert {json.loads(out)["pid"] for out, _ in answers} == {fresh_place.server_pid()}


OLD = """
import sys
import zygo.version
zygo.version.fingerprint = lambda: "0123456789abcdef"
import zygo.server.main
zygo.server.main.fingerprint = zygo.version.fingerprint
sys.exit(zygo.server.main.main(["--foreground"]))
"""


def test_a_server_of_other_code_is_replaced(fresh_place: Place, tmp_path: Path) -> None:
    old = subprocess.Popen(
        [fresh_place.python, "-P", "-c", OLD],
        env=fresh_place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: fresh_place.server_pid() == old.pid, what="the old server")
    with fresh_place.serve(write(tmp_path)) as serve:
        assert old.wait(30) == 0
        assert serve.seen("Replacing the server: it runs other code of the same version")
        assert serve.get("who").status_code == 200
        assert fresh_place.server_pid() != old.pid


def test_a_server_that_was_started_on_demand_ends_when_it_has_had_nothing_to_do(tmp_path: Path) -> None:
    with Place({"ZYGO_IDLE_EXIT": "2"}) as place:
        with place.serve(write(tmp_path)) as serve:
            pid = place.server_pid()
            assert pid is not None
            assert not processes.wait_gone([pid], 3.0), "not while it has an app"
            assert serve.get("who").status_code == 200
        assert processes.wait_gone([pid], 30.0)
        assert "nothing was served for 2 s" in place.server_log()
        place.settle()
        assert not place.processes()
        with place.serve(write(tmp_path)) as serve:
            assert serve.get("who").status_code == 200


def test_many_connections_fit_into_a_modest_limit_of_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with Place() as place:
            place.start_server()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with place.serve(write(tmp_path)) as serve:
                answers = burst(serve.url("who"), 400)
                assert [a.status for a in answers] == [200] * 400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_that_is_taken_is_told_and_the_one_instead_is_remembered(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        with Place({"ZYGO_PORT": str(wanted)}) as place:
            place.start_server()
            first = place.status()
            assert first is not None
            assert first["gateway"]["port"] != wanted
            assert f"(port {wanted} was taken)" in place.zygo("server", "status").text
            place.stop_server()
            place.start_server()
            again = place.status()
            assert again is not None
            assert again["gateway"]["port"] == first["gateway"]["port"]


def test_the_control_socket_is_for_its_owner_alone(fresh_place: Place) -> None:
    fresh_place.start_server()
    path = fresh_place.runtime / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        code = (
            "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
            f"s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr
    for name in ("logs", "blobs"):
        assert (fresh_place.data / name).stat().st_mode & 0o077 == 0, name


def test_the_directory_of_somebody_else_is_not_trusted(fresh_place: Place, tmp_path: Path) -> None:
    """As /tmp/zygo-UID may have been made by another user first, with a server of theirs in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to another user")
    fresh_place.runtime.mkdir(mode=0o777)
    os.chown(fresh_place.runtime, 65534, 65534)
    for done in (fresh_place.zygo("serve", str(write(tmp_path))), fresh_place.zygo("server", "start")):
        assert done.code != 0
        assert f"{fresh_place.runtime}, the directory of the server's socket, belongs to another user" in done.text
        assert "ZYGO_RUNTIME_DIR" in done.text
    text = refused(server(fresh_place))
    assert "belongs to another user" in text


def test_doctor_tries_and_says_what_it_found(fresh_place: Place) -> None:
    done = fresh_place.zygo("doctor")
    checks = json.loads(fresh_place.zygo("doctor", "--json").text)
    assert {"name", "ok", "level", "detail", "mend"} <= set(checks[0])
    failed = [check for check in checks if not check["ok"]]
    assert all(check["mend"] for check in failed)
    assert done.code == (1 if any(check["level"] == "error" for check in failed) else 0)
    for check in checks:
        assert check["name"] in done.text


def test_doctor_without_bubblewrap_prints_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    with Place({"PATH": str(folder)}) as place:
        checks = json.loads(place.zygo("doctor", "--json").text)
        [check] = [c for c in checks if not c["ok"] and "bubblewrap" in c["name"].lower() + c["mend"].lower()]
        assert "install bubblewrap" in check["mend"].lower().lower()
