"""Is this process fit to be forked? What the user's module added while it was imported decides.

Libraries with helper threads survive a fork after import alone (measured, docs/concepts/zygotes.md), so "one thread" is
the wrong test: the baseline is taken after the third-party modules are in.
"""

from __future__ import annotations

import gc
import os
import selectors
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from zygo.guest.own import is_own

if TYPE_CHECKING:
    from asyncio.selector_events import BaseSelectorEventLoop
    from collections.abc import Iterator
    from logging.handlers import QueueListener

_END_SECONDS = 2.0
"""For a thread that was joined to leave /proc: its last instructions, unless the machine is busy."""


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


def rest_log_listeners() -> None:
    """End the threads of logging's queue listeners here and begin them again in whatever is forked from here.

    Litestar starts one when an application is made, and `dictConfig` can: that alone would make the process unfit.
    """
    handlers = sys.modules.get("logging.handlers")
    if handlers is None:
        return
    for thread in threading.enumerate():
        listener = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(listener, handlers.QueueListener):
            listener.stop()
            deadline = time.monotonic() + _END_SECONDS
            while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < deadline:
                time.sleep(0.001)
            _start_in_child(listener)


def _start_in_child(listener: QueueListener) -> None:
    waiting = [listener]

    def start() -> None:
        # In a container, not in the processes that it forks in turn: there a thread is what that program makes of it.
        while waiting:
            waiting.pop().start()

    os.register_at_fork(after_in_child=start)


def rest_event_loops(before: Baseline) -> None:
    """Take their sockets from asyncio's idle loops; whatever is forked from here gives each of them new ones.

    A library that calls `asyncio.get_event_loop()` while it is imported (Gradio does) makes a loop, used or not. Containers that
    share its sockets would wake each other.
    """
    events = sys.modules.get("asyncio.selector_events")
    if events is None or observe().sockets <= before.sockets:
        return
    gc.collect()  # loops that nobody holds any more
    for loop in gc.get_objects():
        if isinstance(loop, events.BaseSelectorEventLoop) and not (loop.is_closed() or loop.is_running()):
            _rest(loop)


def _rest(loop: BaseSelectorEventLoop) -> None:
    own: Any = loop  # asyncio has no public way to do this; these names are the same from Python 3.9 to 3.14
    if len(own._selector.get_map()) > 1:
        return  # something else is open in it: not idle, and it is counted as what it is
    own._close_self_pipe()
    own._selector.close()

    def renew() -> None:
        if own._ssock is None:
            own._selector = selectors.DefaultSelector()
            own._make_self_pipe()

    os.register_at_fork(after_in_child=renew)  # which also keeps the loop here: its end would look for its sockets


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
            if is_own(frame.rpartition(":")[0], source):
                return frame
    return None
