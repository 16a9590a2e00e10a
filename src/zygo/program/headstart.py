"""Starts the warm loader's process (`evaluator`), ahead of need where a command is sure to need it.

It imports for a tenth of a second, as does the command; side by side they take half of that. What nobody takes ends with the
command: its socket closes.
"""

from __future__ import annotations

import socket
import subprocess
import sys

_begun: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def begin() -> None:
    """Start one now, for the next `take`."""
    global _begun
    _begun = _spawn()


def take() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process and our end of its socket, which the caller owns from now on."""
    global _begun
    begun, _begun = _begun, None
    return begun or _spawn()


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        # -P: the current folder's modules must not stand in for the standard library's.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "zygo.program.evaluator", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return process, ours
