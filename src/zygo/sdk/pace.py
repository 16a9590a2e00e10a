"""How fast a map sends its inputs: pure arithmetic over what is known of the function so far.

In flight are as many requests as are of use. A function that takes long wants a container for every input, so all that it can
have are asked for; one that takes a millisecond wants few containers and several inputs in each request, since what a request
costs would be most of its time. Which of the two it is shows in the first answers; until they come, time itself is a hint.
"""

from __future__ import annotations

import os

MOST = 1000
"""Inputs of one map that are pulled from its iterables, sent, or waiting to be yielded."""

FIRST = 2 * (os.cpu_count() or 2)
"""Requests in flight before anything is known, and of a short function: they keep every core busy."""

DOUBLING = 0.02
"""Seconds without any answer after which twice as many requests are sent: 4, 8, ... 1000 take 0.16 s."""

SHORT = 0.005
"""Seconds. A function that takes less is bound by what its requests cost."""

BATCH_SECONDS = 0.01
BATCH_MOST = 64
"""How much of a short function one request carries."""


class Pace:
    """One map's.

    Arguments:
        capacity: inputs that the function can have at work, parallel: those of them in one container.
        alone: no request carries several inputs.
        descriptors: connections that this process may have.
        now: seconds, of a clock that every method is given.
    """

    def __init__(self, capacity: int, parallel: int, descriptors: int, now: float, *, alone: bool = False) -> None:
        # Beyond twice what can run, requests would only wait at the server instead of here.
        self.limit = max(1, min(MOST, max(2 * capacity, FIRST), descriptors))
        self._parallel = parallel
        self._alone = alone
        self._heard = now
        self._mean: float | None = None
        self._pause_until = 0.0

    def answered(self, seconds: float, now: float) -> None:
        """An input took so long."""
        self._heard = now
        self._mean = seconds if self._mean is None else self._mean + 0.2 * (seconds - self._mean)

    def refused(self, now: float) -> None:
        """The server holds all it will: hold back for a while, and from now on."""
        self.limit = max(1, self.limit // 2)
        self._pause_until = now + 0.1

    @property
    def short(self) -> bool:
        """Whether requests cost more than the function."""
        return self._mean is not None and self._mean < SHORT

    def window(self, now: float) -> int:
        """Requests that may be in flight."""
        if now < self._pause_until:
            return 0
        if self._mean is not None and (self._mean >= SHORT or self._parallel > 1):
            return self.limit
        doublings = int((now - self._heard) / DOUBLING)
        return min(self.limit, FIRST << min(doublings, 12))

    def look_again(self, now: float) -> float:
        """Seconds after which the window may have grown by itself."""
        if now < self._pause_until:
            return self._pause_until - now
        return DOUBLING - (now - self._heard) % DOUBLING

    def batch(self, pending: int, free: int) -> int:
        """Inputs for the next request, of `pending` ones and with `free` places in the window."""
        if self._alone or not self.short or self._mean is None:
            return 1
        fair = -(-pending // max(1, free))
        return max(1, min(BATCH_MOST, fair, int(BATCH_SECONDS / max(self._mean, 1e-4))))
