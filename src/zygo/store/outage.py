"""One patience for an outage, shared by reader and writer: a command that asks three things of a database that is away waits for
the first."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


ASKED_SECONDS = 2.0
"""Whoever waits tries again within this time, however short the patience is: the pauses between tries are half a second."""


class Outage:
    """Whether the database is away, and how long it may still be waited for. May be used by several threads.

    Arguments:
        patience: seconds that may be waited from the moment at which it was first found to be away.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._since: float | None = None
        self._seen = 0.0
        self._lock = threading.Lock()

    def found(self) -> None:
        """It does not answer. Nothing new while that is known; after a time in which nobody asked it is another outage."""
        with self._lock:
            now = self._clock()
            if self._since is None or now - self._seen > max(self._patience, ASKED_SECONDS):
                self._since = now
            self._seen = now

    def over(self) -> None:
        """It answers again."""
        with self._lock:
            self._since = None

    def may_wait(self, until: float) -> bool:
        """Whether somebody whose own patience ends at `until` goes on waiting."""
        now = self._clock()
        with self._lock:
            return now < until and (self._since is None or now < self._since + self._patience)

    def told(self, text: str) -> str:
        """`text`, an error, with how long it has lasted."""
        with self._lock:
            since = self._since
        if since is None:
            return text
        return (
            f"{text} It has been away for {self._clock() - since:.0f} s, and is waited for {self._patience:g} s once."
        )
