"""How much output is taken in: an allowance that refills in steps of a second. Pure, on the caller's clock."""

from __future__ import annotations

LINES_PER_SECOND = 5_000
"""Lines of output a second that are shown and kept. A line costs the server's loop 10 microseconds, so this is a twentieth
of it; nobody reads so many, and a log that keeps them all holds the last minute only."""

LINES_AT_ONCE = 10_000
"""Lines that may come in one burst: what a program prints at its start is kept whole."""


class Allowance:
    """Grants up to `burst` at once and `rate` a second over time.

    It refills in steps of a second, not continuously: so what is left out is one stretch of a second, told by one line, and
    not every other line.
    """

    def __init__(self, rate: int, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._left = burst
        self._since = float("-inf")

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` are granted at the time `now` (seconds)."""
        passed = now - self._since
        if passed >= 1.0:
            self._left = int(min(self._burst, self._left + self._rate * min(passed, self._burst)))
            self._since = now
        granted = min(wanted, self._left)
        self._left -= granted
        return granted
