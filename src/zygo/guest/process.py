"""What a forked process does to itself before it is a zygote or a container: cgroups, standard streams, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def join_cgroups(fds: list[int]) -> None:
    """Move this process into the cgroups whose join files are open at `fds`; closes them. It has one thread."""
    for fd in fds:
        os.write(fd, b"0")
        os.close(fd)


def replace_stdio(stdout: int, stderr: int) -> None:
    """No input, and output to these pipes, which are closed under their old numbers."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        if source > 2:
            os.close(source)


def reset_signals() -> None:
    """The interpreter's own handlers, for a process that is not a fork server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def flush() -> None:
    """os._exit does not."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
