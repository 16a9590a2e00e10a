"""Is this process fit to be forked? What the user's module added while it was imported decides.

Libraries with helper threads survive a fork after import alone (measured, docs/concepts/zygotes.md), so "one thread" is
the wrong test: the baseline is taken after the third-party modules are in.
"""

from __future__ import annotations

import os
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Baseline(NamedTuple):
    """Threads and sockets of this process at one moment."""

    threads: int
    sockets: int


def observe() -> Baseline:
    """The state now. Without /proc nothing is known, which compares as nothing added."""
    try:
        threads = len(os.listdir("/proc/self/task"))
        sockets = sum(_is_socket(fd) for fd in os.listdir("/proc/self/fd"))
    except OSError:
        return Baseline(0, 0)
    return Baseline(threads, sockets)


def _is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except OSError:
        return False


@contextmanager
def watching_threads() -> Iterator[list[str]]:
    """Where each thread.start() inside the block was called, as "file:line in name" of every frame, innermost last."""
    calls: list[str] = []
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        calls.append("\n".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_stack()[:-1]))
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]


def compare(before: Baseline, thread_calls: list[str], source: str) -> dict[str, Any] | None:
    """None when nothing was added; otherwise {what, where}: why containers must not be forked from this process."""
    now = observe()
    if now.threads > before.threads:
        return {
            "what": f"started {now.threads - before.threads} thread(s)",
            "where": _where(thread_calls, source),
        }
    if now.sockets > before.sockets:
        return {"what": f"opened {now.sockets - before.sockets} socket(s)", "where": None}
    return None


def _where(calls: list[str], source: str) -> str | None:
    for call in calls:
        for frame in reversed(call.split("\n")):
            if frame.startswith(source + "/"):
                return frame
    return None
