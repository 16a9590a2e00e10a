"""Where a program's progress and its functions' output go. The commands have a richer one in `cli.output`."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import Any, Protocol, TextIO


class Screen(Protocol):
    """Shows what is done with an app."""

    def line(self, text: str = "", style: str = "") -> None:
        """One statement."""

    def success(self, text: str) -> None:
        """Something is done."""

    def hint(self, text: str) -> None:
        """Something of less weight."""

    def warning(self, text: str) -> None:
        """Something that may not be as wanted."""

    def build(self, step: str, text: str) -> None:
        """One line of an image's build."""

    def log(self, event: dict[str, Any]) -> None:
        """One line that a function printed."""


class Lines:
    """What functions print, as they print it: to stdout what they write there, the rest to stderr.

    Each line goes to the descriptor at once and whole. The program's own output, in this process, is flushed by lines too, so
    that the two never share one. `quiet` leaves out what zygo itself has to say of the containers.
    """

    def __init__(self, *, timestamps: bool = False, quiet: bool = False) -> None:
        self._timestamps, self._quiet = timestamps, quiet
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError, OSError):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def log(self, event: dict[str, Any]) -> None:
        """One line."""
        kind = event.get("stream")
        if kind == "system" and self._quiet:
            return
        stamp = ""
        if self._timestamps:
            seconds = float(event.get("time") or time.time())
            milliseconds = int(seconds * 1000) % 1000
            stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds))}.{milliseconds:03d} "
        text = str(event.get("text", "")).removesuffix("\n")
        stream = sys.stdout if kind == "stdout" else sys.stderr
        _write(stream, "".join(f"{stamp}{line}\n" for line in text.split("\n")))


def _write(stream: TextIO, text: str) -> None:
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):  # somebody's stand-in: a notebook, a test
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()
        return
    data = memoryview(text.encode(stream.encoding or "utf-8", "replace"))
    with contextlib.suppress(OSError):  # whoever read it has gone; the program notices with its own output
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                select.select([], [fd], [])


class Plain(Lines):
    """Progress as plain lines on stderr, so that stdout is the program's."""

    def line(self, text: str = "", style: str = "") -> None:
        _write(sys.stderr, f"{text}\n")

    def success(self, text: str) -> None:
        self.line(f"✓ {text}")

    def hint(self, text: str) -> None:
        self.line(text)

    def warning(self, text: str) -> None:
        self.line(f"Warning: {text}")

    def build(self, step: str, text: str) -> None:
        self.line(f"  {step} | {text}")


class Silent:
    """Shows nothing, but for what functions print when `output` is given."""

    def __init__(self, output: Lines | None = None) -> None:
        self._output = output

    def line(self, text: str = "", style: str = "") -> None:
        """Nothing."""

    def success(self, text: str) -> None:
        """Nothing."""

    def hint(self, text: str) -> None:
        """Nothing."""

    def warning(self, text: str) -> None:
        """Nothing."""

    def build(self, step: str, text: str) -> None:
        """Nothing."""

    def log(self, event: dict[str, Any]) -> None:
        if self._output is not None:
            self._output.log(event)


def for_program() -> Screen:
    """What a program that starts its app itself shows: what it has switched on with `enable_output()`."""
    from zygo.sdk import context

    if context.progress_shown():
        return Plain()
    return Silent(Lines(quiet=True) if context.functions_shown() else None)
