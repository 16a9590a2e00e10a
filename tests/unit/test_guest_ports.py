"""Which ports are listened to, and which processes there are, as /proc tells."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from zygo.guest import ports


@pytest.mark.parametrize(
    ("family", "bound", "found"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.5", "127.0.0.5"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_a_listening_port_and_where_to_connect(family: socket.AddressFamily, bound: str, found: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((bound, 0))
        except OSError:
            pytest.skip(f"{bound} is not there")
        port = sock.getsockname()[1]
        assert port not in ports.listeners(), "bound is not listening"
        sock.listen()
        assert ports.listeners()[port] == [found]
    assert port not in ports.listeners()


def test_the_processes_that_were_started_and_theirs() -> None:
    assert os.getpid() not in ports.others()
    program = "import subprocess, sys; p = subprocess.Popen(['sleep', '60'])"
    program += "; print(p.pid, flush=True); sys.stdin.read(); p.kill()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    assert {child.pid, grandchild} <= ports.others()
    child.stdin.close()
    child.wait()
    child.stdout.close()
    assert child.pid not in ports.others()
