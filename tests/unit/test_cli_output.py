"""What the terminal shows, plain and coloured."""

from __future__ import annotations

import io
import os
import pty
import re
import time
from contextlib import suppress
from typing import Any, TextIO

import pytest

from zygo import errors
from zygo.cli import output, report

REQUEST = {
    "type": "request", "function": "square", "method": "GET", "path": "/?x=42", "status": 200, "start": "cold",
    "queue_ms": 0.21, "fork_ms": 2.04, "first_ms": 8.4, "total_ms": 11.2, "request_id": "q-1", "client": "127.0.0.1",
}  # fmt: skip


def plain(**options: Any) -> tuple[output.Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return output.make(out, err, **options), out, err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pseudo terminal: its output object, and a function that closes it and returns what it showed."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    leader, follower = pty.openpty()
    stream: TextIO = os.fdopen(follower, "w")

    def shown() -> str:
        stream.close()
        data = b""
        with suppress(OSError):
            while chunk := os.read(leader, 65536):
                data += chunk
        return data.decode().replace("\r\n", "\n")

    yield stream, shown
    os.close(leader)


def test_request_line_tells_a_cold_start_and_where_the_time_went() -> None:
    out, text, _ = plain()
    out.request(REQUEST)
    assert text.getvalue() == "GET /?x=42  200  cold 11 ms  (queue 0.2, fork 2, first 8.4)  square\n"


def test_request_line_of_a_warm_request_has_no_fork() -> None:
    out, text, _ = plain()
    out.request({**REQUEST, "start": "warm", "fork_ms": 0, "total_ms": 0.94, "status": 500, "error": "boom"})
    assert text.getvalue() == "GET /?x=42  500  warm 0.9 ms  (queue 0.2, first 8.4)  square  boom\n"


def test_request_line_of_a_request_without_an_answer() -> None:
    out, text, _ = plain()
    out.request({**REQUEST, "status": 0, "start": None, "queue_ms": None, "fork_ms": None, "first_ms": None})
    assert text.getvalue() == "GET /?x=42  ---  - 11 ms  (queue 0, first 0)  square\n"


def test_log_lines_carry_their_function_aligned() -> None:
    out, text, _ = plain()
    out.log({"function": "resize", "stream": "stdout", "text": "one\ntwo\n"})
    out.log({"function": "f", "stream": "stderr", "text": ""})
    assert text.getvalue() == "resize | one\nresize | two\nf      | \n"


def test_log_lines_with_timestamps() -> None:
    out, text, _ = plain(timestamps=True)
    out.log({"function": "f", "stream": "stdout", "text": "x", "time": 0.25})
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(0))
    assert text.getvalue() == f"{stamp}.250 f | x\n"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%", "100%"),
        ("line\r", "line"),
        ("a\x07b\x00c\td", "abc\td"),
        ("\x1b[2Jgone", "gone"),
    ],
)
def test_plain_text_has_no_control_characters(text: str, kept: str) -> None:
    assert output.clean(text, colours=False) == kept


def test_colours_of_a_program_stay_on_a_terminal_and_cursor_moves_do_not() -> None:
    assert output.clean("\x1b[31mred\x1b[0m\x1b[2A", colours=True) == "\x1b[31mred\x1b[0m"


def test_warnings_and_errors_go_to_stderr() -> None:
    out, text, err = plain()
    out.warning("careful")
    out.error("It failed.\nMend it.", "because: of that")
    assert text.getvalue() == ""
    assert err.getvalue() == "Warning: careful\nError: It failed.\nMend it.\nbecause: of that\n"


def test_a_spinner_leaves_nothing_in_plain_text() -> None:
    out, text, _ = plain()
    with out.working("Building..."):
        out.build("pip_install", "Resolved 3 packages")
    assert text.getvalue() == "  pip_install | Resolved 3 packages\n"


def test_terminal_is_coloured(terminal: Any) -> None:
    stream, shown = terminal
    out = output.make(stream, stream)
    assert out.interactive
    out.log({"function": "one", "stream": "stdout", "text": "a [bold]markup[/bold] stays"})
    out.log({"function": "two", "stream": "stdout", "text": "b"})
    text = shown()
    assert "a [bold]markup[/bold] stays" in text
    prefixes = re.findall(r"(\x1b\[[0-9;]*m)(one|two) \|", text)
    assert len({colour for colour, _ in prefixes}) == 2


def test_terminal_does_not_break_long_lines(terminal: Any) -> None:
    stream, shown = terminal
    output.make(stream, stream).line("x" * 200)
    assert "x" * 200 in shown()


def test_terminal_shows_errors_above_a_spinner(terminal: Any) -> None:
    stream, shown = terminal
    out = output.make(stream, stream)
    with out.working("Building..."):
        out.warning("hot")
        with out.working("inner"):
            out.line("done")
    text = shown()
    assert "Warning: hot" in text
    assert "done" in text


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colours_gets_none(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    stream, shown = terminal
    monkeypatch.setenv(variable, value)
    out = output.make(stream, stream)
    out.success("done")
    assert shown() == "✓ done\n"


def test_a_reader_that_went_away_is_noticed_once() -> None:
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    out = output.make(stream, io.StringIO())
    noticed: list[bool] = []
    out.on_broken = lambda: noticed.append(True)
    os.close(read_end)
    out.line("one")
    out.line("two")
    assert noticed == [True]
    with suppress(BrokenPipeError):
        stream.close()


def test_text_that_the_terminal_cannot_encode_is_replaced() -> None:
    raw = io.BytesIO()
    out = output.make(io.TextIOWrapper(raw, encoding="ascii"), io.StringIO())
    out.success("fine")
    assert raw.getvalue() == b"? fine\n"


def test_error_report_has_the_chain_of_causes_and_the_exit_code() -> None:
    out, _, err = plain()
    error = errors.ConnectionError("no server answers")
    error.__cause__ = OSError("connection refused")
    assert report.show(error, out) == 1
    assert err.getvalue() == "Error: no server answers\nbecause: connection refused\n"
    assert report.show(errors.AppReferenceError("no such file"), out) == 2


def test_error_report_of_user_code_is_the_users_traceback_alone() -> None:
    out, _, err = plain()
    error = errors.UserCodeError("hello.py failed", traceback='Traceback:\n  File "hello.py", line 1\nKeyError: 1\n')
    report.show(error, out)
    assert err.getvalue() == 'Error: hello.py failed\nTraceback:\n  File "hello.py", line 1\nKeyError: 1\n'


def test_error_report_of_our_own_fault_asks_to_report_it_and_shows_all_with_debug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise KeyError("internal")

    out, _, err = plain()
    try:
        fail()
    except KeyError as error:
        caught = error
    assert report.show(caught, out) == 1
    assert "please report it: KeyError: 'internal'" in err.getvalue()
    assert "Traceback" not in err.getvalue()
    monkeypatch.setattr(report, "debug", True)
    report.show(caught, out)
    assert "Traceback (most recent call last)" in err.getvalue()


def test_error_report_of_a_failed_build_step() -> None:
    out, _, err = plain()
    report.show(errors.ImageBuildError("the image failed", "pip_install('x')", "uv pip install x", "no x"), out)
    assert err.getvalue().splitlines()[1:] == ["step: pip_install('x')", "command: uv pip install x", "no x"]
