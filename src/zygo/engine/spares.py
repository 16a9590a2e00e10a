"""Spares: one more container of each function that was used lately, forked ahead of need and parked.

Its namespaces are made, its loop runs, its pages are copied; none of the user's code has run since the fork. Being needed, it
has only to be told. At most so many over all functions: the least recently used is given up first.
"""

from __future__ import annotations

import asyncio
import signal
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zygo.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.local import LocalContainer, LocalRevision

DELAY = 0.2
"""Seconds after a start before the next spare is forked: the request that caused the start has the cores first."""

LEAST_AVAILABLE = 0.1
"""Part of the machine's memory that must be available for a new spare."""


class Spares:
    """The spares of one engine. `limit` is how many there may be; 0 switches them off."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parked: OrderedDict[tuple[LocalRevision, str], LocalContainer] = OrderedDict()

    def take(self, revision: LocalRevision, function: str, variant: dict[str, Any]) -> LocalContainer | None:
        """The spare of this function, told to go on as that variant; None when there is none that lives."""
        container = self._parked.pop((revision, function), None)
        return container if container is not None and container.process.go(variant) else None

    def refill_later(self, revision: LocalRevision, function: str, make: Callable[[], LocalContainer]) -> None:
        """Park another one of this function soon."""
        if self._limit:
            asyncio.get_running_loop().call_later(DELAY, self._refill, revision, function, make)

    def drop(self, revision: LocalRevision) -> None:
        """Give up the spares of a revision."""
        for key in [key for key in self._parked if key[0] is revision]:
            self._give_up(key)

    def _refill(self, revision: LocalRevision, function: str, make: Callable[[], LocalContainer]) -> None:
        key = (revision, function)
        if key in self._parked or not revision.alive or not _memory_available():
            return
        try:
            container = make()
        except (ContainerError, OSError):
            return  # the zygote is gone; the next start makes a new one and comes here again
        self._parked[key] = container
        container.exited.add_done_callback(lambda _: self._forget(key, container))
        while len(self._parked) > self._limit:
            self._give_up(next(iter(self._parked)))

    def _give_up(self, key: tuple[LocalRevision, str]) -> None:
        self._parked.pop(key).process.signal(signal.SIGKILL)

    def _forget(self, key: tuple[LocalRevision, str], container: LocalContainer) -> None:
        if self._parked.get(key) is container:
            del self._parked[key]


def _memory_available() -> bool:
    try:
        with open("/proc/meminfo") as file:
            found = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in file)}
        return found["MemAvailable"] > found["MemTotal"] * LEAST_AVAILABLE
    except (OSError, ValueError, LookupError):  # another system; psutil knows, and takes its time to import
        import psutil

        memory = psutil.virtual_memory()
        return bool(memory.available > memory.total * LEAST_AVAILABLE)
