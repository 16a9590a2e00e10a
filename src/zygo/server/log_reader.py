"""Reads the files of an app's log: the last lines from the end, or a range from its beginning. Runs in a thread.

Between two blocks it lets go of the interpreter: a search through everything that is kept takes half a second of work, and the
event loop must not wait longer for its turn than a block takes (1 ms).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zygo.server.log_lines import Wanted, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.server.log_writer import Snapshot

BLOCK = 64 * 1024

YIELD_SECONDS = 0.0002
"""Long enough for the event loop to take the interpreter; a thread that lets go for less has it back first."""

CLOCK_SLACK = 60.0
"""Seconds by which lines may be out of order: the clock is set, and writers keep lines for a moment."""


def last_lines(snapshot: Snapshot, wanted: Wanted, count: int, block: int = BLOCK) -> list[bytes]:
    """The last `count` lines that are wanted, oldest first, each as it stands in the file with its newline."""
    found: list[bytes] = []
    if count <= 0:
        return found
    for raw in _backwards(snapshot, block):
        line = decode(raw)
        if line is None:
            continue
        if wanted.matches(line):
            found.append(raw + b"\n")
            if len(found) == count:
                break
        elif wanted.since is not None and line.time < wanted.since - CLOCK_SLACK:
            break
    found.reverse()
    return found


def all_lines(snapshot: Snapshot, wanted: Wanted, block: int = BLOCK) -> Iterator[list[bytes]]:
    """Every line that is wanted, oldest first, in portions (perhaps empty) of what one block holds."""
    for index in reversed(range(len(snapshot.sizes))):
        size = snapshot.sizes[index]
        if wanted.since is not None and snapshot.changed(index) < wanted.since - CLOCK_SLACK:
            continue
        rest = b""
        for at in range(0, size, block):
            *lines, rest = (rest + snapshot.read(index, min(block, size - at), at)).split(b"\n")
            yield [raw + b"\n" for raw in lines if (line := decode(raw)) is not None and wanted.matches(line)]


def _backwards(snapshot: Snapshot, block: int) -> Iterator[bytes]:
    """The lines from the last to the first, without their newlines."""
    for index, size in enumerate(snapshot.sizes):
        begun: list[bytes] = []  # of a line whose beginning is not read yet: its pieces, last first
        while size > 0:
            start = max(0, size - block)
            first, *lines = snapshot.read(index, size - start, start).split(b"\n")
            size = start
            if lines:
                *lines, last = lines
                yield b"".join([last, *reversed(begun)])
                yield from reversed(lines)
                begun = []
            begun.append(first)
            time.sleep(YIELD_SECONDS)
        if begun:
            yield b"".join(reversed(begun))
