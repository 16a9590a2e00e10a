"""Methods in two forms: blocking, and `.aio` for async code. One implementation: a coroutine, or an async generator.

The blocking form runs it on an event loop in a thread of its own, one for the process, which starts with the first call. In
a process that was forked the thread is gone, so it starts anew there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from zygo.errors import AsyncUsageWarning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _forget() -> None:
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def loop() -> asyncio.AbstractEventLoop:
    """The loop of the blocking calls."""
    global _loop
    if _loop is None:
        with _lock:
            if _loop is None:
                made = asyncio.new_event_loop()
                threading.Thread(target=made.run_forever, name="zygo calls", daemon=True).start()
                _loop = made
    return _loop


def run(coroutine: Coroutine[Any, Any, Any], what: str) -> Any:
    """Run `coroutine` on that loop and wait for its result. Ctrl-C cancels it. `what` is named in the warning."""
    warn_in_loop(what)
    own = loop()
    if _is_own_thread(own):
        coroutine.close()
        raise RuntimeError(f"{what} was called on zygo's own event loop; use .aio there.")
    future: Future[Any] = Future()

    def start() -> None:
        task = own.create_task(coroutine)
        task.add_done_callback(lambda done: _hand_over(done, future))
        cancel.append(task)

    cancel: list[asyncio.Task[Any]] = []
    own.call_soon_threadsafe(start)
    try:
        return future.result()
    except BaseException:
        # An interrupt of this thread: the call ends with it.
        if not future.done():
            own.call_soon_threadsafe(lambda: [task.cancel() for task in cancel])
        raise


def _hand_over(task: asyncio.Task[Any], future: Future[Any]) -> None:
    if future.done():
        return
    if task.cancelled():
        future.cancel()
        return
    error = task.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def iterate(items: AsyncIterator[Any], what: str) -> Iterator[Any]:
    """The items of an async generator, for blocking code."""
    warn_in_loop(what)

    async def step() -> tuple[bool, Any]:
        try:
            return True, await items.__anext__()
        except StopAsyncIteration:
            return False, None

    try:
        while True:
            more, item = run(step(), what)
            if not more:
                return
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            run(close(), what)


def warn_in_loop(what: str) -> None:
    """Warn when a blocking call is about to block a running event loop."""
    if asyncio._get_running_loop() is not None:
        warnings.warn(
            f"{what} blocks the event loop that runs here. Write: await {_aio(what)}", AsyncUsageWarning, _user_level()
        )


def _aio(what: str) -> str:
    return f"{what.removesuffix('()')}.aio(...)"


def _user_level() -> int:
    level, frame = 1, sys._getframe(1)
    while frame is not None and "/zygo/sdk/" in frame.f_code.co_filename:
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level


def _is_own_thread(own: asyncio.AbstractEventLoop) -> bool:
    return asyncio._get_running_loop() is own
