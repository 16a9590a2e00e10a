"""The server under a service manager: the unit that is shown, and what the server tells the manager."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import zygo
from zygo.cli.account import Account
from zygo.testing.harness import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


USER = 64771
"""The service's user; no account is needed for it here."""

PROGRAM = """
import os

import zygo

app = zygo.App("owned")


@app.function()
@zygo.asgi_app()
def who():
    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getuid()).encode()})

    return answer
"""


def command_of(unit: str) -> tuple[list[str], dict[str, str]]:
    """What systemd would run for a unit with plain words, and its variables."""
    lines = unit.splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).partition("=")[2].split()
    pairs = (line.split("=", 2) for line in lines if line.startswith("Environment="))
    return command, {name: value for _, name, value in pairs}


@contextlib.contextmanager
def service_of(place: Place, *, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The unit's command line as systemd runs it: as its user, with the one capability that the unit may give."""
    shown = place.zygo("server", "install", "--print", "--user", "zygo")
    assert shown.code == 0, shown.text
    assert "User=zygo" in shown.lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in shown.lines
    command, variables = command_of(shown.text)
    assert variables["ZYGO_PORT"] == str(port)
    as_user = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=+net_bind_service"]
    path = str(place.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        os.chmod(path, 0o666)
        manager.settimeout(60)
        process = subprocess.Popen(
            ["setpriv", *as_user, "--ambient-caps=+net_bind_service", *command],
            env={"PATH": os.environ["PATH"], "HOME": str(place.data), "NOTIFY_SOCKET": path, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1", place.server_log()
            yield process
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be everyone")
def test_the_service_runs_as_a_user_of_its_own(write: Callable[..., Path]) -> None:
    """Also on the data of a server that ran as root, once it is given to the user as the refusal says."""
    if Account("", USER, USER).reads(Path(sys.executable)) or Account("", USER, USER).reads(Path(zygo.__file__)):
        pytest.skip("this environment is closed to other users")
    program = write(PROGRAM)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = next(port for port in range(1000, 900, -1) if free.connect_ex(("127.0.0.1", port)) != 0)
    with Place({"ZYGO_PORT": str(port)}) as place:
        place.root.chmod(0o755)
        deployed = place.deploy(program)  # by a server that root started by hand
        assert place.zygo("server", "install").code == 1
        place.stop_server()
        for folder in (place.data, place.runtime):
            subprocess.run(["chown", "-R", "-h", f"{USER}:{USER}", str(folder)], check=True)
        refused = place.zygo("app", "list")
        assert "Start it with: systemctl start zygo" in " ".join(refused.text.split())
        with service_of(place, port=port) as process:
            status = place.status()
            assert status is not None
            assert status["pid"] == process.pid
            assert os.stat(f"/proc/{process.pid}").st_uid == USER
            if shutil.which("bwrap"):
                assert status["sandbox"] == "bubblewrap", place.server_log()
            answer = httpx.get(deployed["urls"]["who"], trust_env=False, timeout=60)
            assert answer.text == "0", place.server_log()  # root of its own sandbox
            containers = [p.pid for p in place.processes() if p.kind == "container"]
            assert {os.stat(f"/proc/{pid}").st_uid for pid in containers} == {USER}
            # Root's commands use it.
            assert "owned" in place.zygo("app", "list").text
            assert place.zygo("app", "stop", "owned", "--yes").code == 0
            place.settle()


def test_the_unit_is_shown_and_nothing_is_done(fresh_place: Place) -> None:
    done = fresh_place.zygo("server", "install", "--print")
    assert done.code == 0
    assert f"ExecStart={sys.executable} -P -m zygo.server.main --foreground" in done.lines
    assert f"Environment=ZYGO_DATA_DIR={fresh_place.data}" in done.lines
    assert fresh_place.server_pid() is None


def test_the_server_says_when_it_is_ready_and_when_it_stops(fresh_place: Place, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        process = subprocess.Popen(
            [fresh_place.python, "-P", "-m", "zygo.server.main", "--foreground"],
            env={**fresh_place.environment, "NOTIFY_SOCKET": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            status = fresh_place.status()
            assert status is not None
            assert status["pid"] == process.pid
            assert status["managed"] is True
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
