"""A client that leaves cancels the handler of its request, unless the application watches for that itself.

`on_left` of uvicorn's request cycle is ours (serve.py): what is called when the client has left before its answer.
"""

from __future__ import annotations

import asyncio
from typing import Any


def watched(cycle: Any) -> bool:
    """Whether somebody waits for a message of this request now: who does hears of the disconnect by that, and acts on it."""
    return bool(cycle.message_event._waiters)


class Cancelling:
    """Cancels the task that it was made in when the client leaves."""

    __slots__ = ("_task", "cancelled")

    def __init__(self, cycle: Any) -> None:
        self._task: Any = asyncio.current_task()
        self.cancelled = False
        cycle.on_left = self

    def __call__(self) -> None:
        self.cancelled = True
        self._task.cancel()


def uninterrupted(receive: Any) -> None:
    """This request's handler is not one that can be cancelled: a thread, or code with a way of its own."""
    cycle = getattr(receive, "__self__", None)
    if cycle is not None:
        cycle.on_left = None
