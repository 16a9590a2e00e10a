"""What the commands print. Nothing else in the project writes to the terminal.

`Output` writes plain text, line by line and flushed, for pipes, files, NO_COLOR and dumb terminals; `Terminal` adds
colours and a spinner. Results and logs go to stdout, warnings and errors to stderr.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.status import Status

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")
_PALETTE = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")


def make(stdout: TextIO, stderr: TextIO, *, timestamps: bool = False) -> Output:
    """The output that fits `stdout`: colours only on a real terminal that wants them."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    fancy = stdout.isatty() and not dumb and not os.environ.get("NO_COLOR")
    return (Terminal if fancy else Output)(stdout, stderr, timestamps=timestamps)


def clean(text: str, *, colours: bool) -> str:
    """What a program printed, without what would move the cursor or change the terminal; colours may stay."""

    def keep(match: re.Match[str]) -> str:
        return match[0] if colours and match[0].startswith("\x1b[") and match[0].endswith("m") else ""

    # A progress bar's last state is what its line says.
    text = text.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub(keep, text))


def milliseconds(value: Any) -> str:
    """A duration in ms with two digits that matter: 0.2, 8.5, 11, 1204."""
    number = float(value or 0)
    return f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:.0f}"


class Output:
    """Plain text. A reader that went away sets `broken`, and nothing is written any more."""

    interactive = False

    def __init__(self, stdout: TextIO, stderr: TextIO, *, timestamps: bool = False) -> None:
        self.timestamps = timestamps
        self.broken = False
        self.on_broken: Callable[[], None] = lambda: None
        self._stdout, self._stderr = stdout, stderr
        self._width = 0
        for stream in (stdout, stderr):
            # A terminal of another encoding shows a question mark instead of ending the command.
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors="replace")  # type: ignore[attr-defined]

    def watch_reader(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notice at once when stdout is a pipe whose reader ends, and not with the next line, which may never come."""
        with contextlib.suppress(OSError, ValueError):
            fd = self._stdout.fileno()
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                # The write end of a pipe is never readable: this only fires for its error state.
                loop.add_reader(fd, self._reader_ended, loop, fd)

    def _reader_ended(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        loop.remove_reader(fd)
        self._break()

    def line(self, text: str = "", style: str = "") -> None:
        """One statement."""
        self._write(self._stdout, text, style)

    def success(self, text: str) -> None:
        self.line(f"✓ {text}", "green")

    def hint(self, text: str) -> None:
        """Something of less weight."""
        self.line(text, "dim")

    def warning(self, text: str) -> None:
        self._write(self._stderr, f"Warning: {text}", "yellow")

    def error(self, headline: str, details: str = "") -> None:
        """What failed and, below it, what is known of it."""
        first, *more = headline.split("\n")
        self._write(self._stderr, f"Error: {first}", "bold red")
        self.error_details("\n".join([*more, details] if details else more))

    def error_details(self, text: str) -> None:
        if text:
            self._write(self._stderr, clean_block(text), "")

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        """Rows in columns, under their names. The last column is as wide as it wants, so that a URL stays in one piece."""
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        for number, row in enumerate([head, *rows]):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.line(text, "" if number else "bold")

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Something takes time: a spinner on a terminal, nothing elsewhere (its result is what gets printed)."""
        yield

    def build(self, step: str, text: str) -> None:
        """One line of an image's build."""
        self.line(f"  {step} | {clean(text, colours=self.interactive)}", "dim")

    def log(self, event: dict[str, Any]) -> None:
        """One line that a function printed: `square | hello`."""
        name = str(event.get("function") or "zygo")
        self._width = max(self._width, len(name))
        stderr = event.get("stream") == "stderr"
        style = {"system": "italic", "stderr": "yellow"}.get(str(event.get("stream")), "")
        for text in str(event.get("text", "")).removesuffix("\n").split("\n"):
            self._named(name, clean(text, colours=self.interactive), "red" if stderr else style, event)

    def request(self, event: dict[str, Any]) -> None:
        """One answered request: what, how it ended, whether it met a warm container, where the time went."""
        status, cold = int(event.get("status") or 0), event.get("start") == "cold"
        total = milliseconds(event.get("total_ms"))
        parts = [f"queue {milliseconds(event.get('queue_ms'))}"]
        if cold:
            parts.append(f"fork {milliseconds(event.get('fork_ms'))}")
        parts.append(f"first {milliseconds(event.get('first_ms'))}")
        start = event.get("start") or "-"
        call = event.get("method") == "CALL"  # of a function without a URL, which is named at the end
        what = "CALL" if call else clean(f"{event.get('method', '?')} {event.get('path', '?')}", colours=False)
        tail = f"  {event['error']}" if event.get("error") else ""
        text = f"{what}  {status or '---'}  {start} {total} ms  ({', '.join(parts)})  {event.get('function', '')}"
        self._stamped(text + clean(tail, colours=False), _status_style(status, cold), event)

    def _named(self, name: str, text: str, style: str, event: dict[str, Any]) -> None:
        self._stamped(f"{name:<{self._width}} | {text}", style, event)

    def _stamped(self, text: str, style: str, event: dict[str, Any]) -> None:
        self.line(self._stamp(event) + text, style)

    def _stamp(self, event: dict[str, Any]) -> str:
        if not self.timestamps:
            return ""
        seconds = float(event.get("time") or time.time())
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{int(seconds * 1000) % 1000:03d} "

    def _break(self) -> None:
        if not self.broken:
            self.broken = True
            self.on_broken()

    def _write(self, stream: TextIO, text: str, style: str) -> None:
        if self.broken:
            return
        try:
            stream.write(text + "\n")
            stream.flush()
        except (OSError, ValueError):  # the reader of the pipe ended, or the terminal was closed
            self._break()


class Terminal(Output):
    """Colours and a spinner, on a real terminal."""

    interactive = True

    def __init__(self, stdout: TextIO, stderr: TextIO, *, timestamps: bool = False) -> None:
        super().__init__(stdout, stderr, timestamps=timestamps)
        from rich.console import Console

        self._consoles: dict[TextIO, Console] = {
            stream: Console(file=stream, highlight=False, soft_wrap=True) for stream in {stdout, stderr}
        }
        self._spinner: Status | None = None
        self._colours: dict[str, str] = {}

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        if self._spinner is not None:  # one at a time: the outer one says enough
            yield
            return
        self._spinner = self._consoles[self._stdout].status(text, spinner="dots")
        try:
            self._spinner.start()
            yield
        finally:
            self._spinner.stop()
            self._spinner = None

    def _named(self, name: str, text: str, style: str, event: dict[str, Any]) -> None:
        from rich.text import Text

        colour = self._colours.setdefault(name, _PALETTE[len(self._colours) % len(_PALETTE)])
        line = Text(self._stamp(event), "dim")
        line.append(f"{name:<{self._width}} | ", colour)
        line.append_text(Text.from_ansi(text, style=style) if text else Text())
        self._print(self._stdout, line)

    def _write(self, stream: TextIO, text: str, style: str) -> None:
        from rich.text import Text

        self._print(stream, Text(text, style))

    def _print(self, stream: TextIO, text: Any) -> None:
        if self.broken:
            return
        # The spinner owns stdout's last line; what goes to stderr would land on it.
        pause = self._spinner if stream is self._stderr else None
        try:
            if pause is not None:
                pause.stop()
            self._consoles[stream].print(text)
            stream.flush()
            if pause is not None:
                pause.start()
        except (OSError, ValueError):
            self._break()


def clean_block(text: str) -> str:
    """`clean` for text of several lines."""
    return "\n".join(clean(line, colours=False) for line in text.rstrip("\n").split("\n"))


def _status_style(status: int, cold: bool) -> str:
    if status >= 500 or status == 0:
        return "red"
    if status >= 400:
        return "yellow"
    return "bright_blue" if cold else ""
