"""How far a map is, on a terminal: one line that is written over, from the first second on."""

from __future__ import annotations

import sys
import time

from zygo.sdk import context

AFTER = 1.0
"""Seconds before it shows: a map that is done by then needs none."""

EVERY = 0.1


class Progress:
    """A context. Nothing is shown where stderr is no terminal, or in a container."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name = name
        self._of = "" if total is None else f"/{total}"
        self._next = time.monotonic() + AFTER
        self._shown = False
        self._on = context.is_local() and sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, done: int) -> None:
        """So many inputs are done."""
        now = time.monotonic()
        if self._on and now >= self._next:
            self._next = now + EVERY
            self._shown = True
            sys.stderr.write(f"\r\x1b[K{self._name}: {done}{self._of}")
            sys.stderr.flush()
