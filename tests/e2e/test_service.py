"""The server under a service manager: the unit that is shown, and what the server tells the manager."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.testing.harness import Place


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
