"""The loop of the zygotes, in a process of its own: it answers, it reaps, and it ends with its control socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from zygo import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import os, socket, sys, time
from zygo import wire
from zygo.guest.fork_server import ForkServer

control = socket.socket(fileno=int(sys.argv[1]))

def fork(message, fds):
    for fd in fds:
        os.close(fd)
    pid = os.fork()
    if pid == 0:
        server.forget_in_child()
        os._exit(message["code"])
    server.children.add(pid)
    wire.send(control, {"type": "forked", "pid": pid})

def look(message, fds):
    wire.send(control, {"type": "open", "fds": len(os.listdir("/proc/self/fd"))})

def ended(pid, status):
    wire.send(control, {"type": "ended", "pid": pid, "code": os.WEXITSTATUS(status)})

server = ForkServer(control, {"fork": fork, "look": look}, ended, reap_all=sys.argv[2] == "all")
stranger = os.fork()
if stranger == 0:
    os._exit(9)
wire.send(control, {"type": "up", "stranger": stranger})
server.serve()
"""


class Running:
    def __init__(self, reap: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(20)
        command = [sys.executable, "-c", SERVER, str(theirs.fileno()), reap]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
        theirs.close()
        self.stranger = self.receive("up")["stranger"]

    def receive(self, kind: str) -> dict[str, Any]:
        message, fds = wire.receive(self.control)
        assert message is not None
        assert fds == []
        assert message["type"] == kind, message
        return message

    def close(self) -> int:
        self.control.close()
        if self.process.poll() is None:
            assert self.process.communicate(timeout=20)[1] == "", "it ends without a word"
        return self.process.returncode


@pytest.fixture(params=["all", "own"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(request.param)
    if request.param == "all":
        assert running.receive("ended") == {"type": "ended", "pid": running.stranger, "code": 9}
    yield running
    assert running.close() == 0


def test_every_child_is_reaped_and_told(server: Running) -> None:
    for code in range(20):
        wire.send(server.control, {"type": "fork", "code": code})
    forked: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    while len(forked) + len(ended) < 40:
        message, _ = wire.receive(server.control)
        assert message is not None
        (forked if message["type"] == "forked" else ended).append(message)
    told = [(m["pid"], m["code"]) for m in sorted(ended, key=lambda m: m["code"])]
    assert told == [(m["pid"], code) for code, m in enumerate(forked)]
    for pid, _ in told:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_descriptors_of_what_it_does_not_know_are_closed(server: Running) -> None:
    wire.send(server.control, {"type": "look"})
    before = server.receive("open")["fds"]
    for _ in range(50):
        wire.send(server.control, {"type": "who knows"}, [0, 1, 2])
    wire.send(server.control, {"type": "look"})
    assert server.receive("open")["fds"] == before


def test_what_is_not_a_message_ends_it() -> None:
    running = Running("own")
    running.control.send(b"not json")
    assert running.process.communicate(timeout=20)[1] == ""
    assert running.close() == 0


def test_one_whose_answer_nobody_can_hear_ends_without_a_word(server: Running) -> None:
    """The server was killed between its question and the answer: no traceback in anybody's log."""
    for _ in range(20):
        wire.send(server.control, {"type": "look"})
    assert server.close() == 0
