"""`zygo serve` in a subprocess against a server that keeps the contract: the whole flow, as a user sees it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from zygo.sdk import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = str(Path(__file__).parents[1])
SECONDS = 30.0

# The command as it is installed, with another program for the server.
ZYGO = """
import zygo.program.place as p
from dataclasses import replace
real = p.own
p.own = lambda: replace(real(), module="fake_server")
from zygo.cli.main import main
main()
"""

HELLO = """
import modal

app = modal.App("hello")


@app.function()
@modal.fastapi_endpoint()
def square(x: int):
    return {"square": x**2}
"""


class Command:
    """A running `zygo`; its output by line."""

    def __init__(self, home: Home, *args: str, terminal: bool = False, **environment: str) -> None:
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        read_end, write_end = pty.openpty() if terminal else os.pipe()
        self.keyboard = os.dup(read_end) if terminal else -1
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", ZYGO, *args],
            stdin=write_end if terminal else subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            cwd=home.folder,
            env={**home.environment, **environment},
            start_new_session=terminal,
            preexec_fn=_own_terminal if terminal else None,
        )
        os.close(write_end)
        self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self._reader.start()

    def _read(self, fd: int) -> None:
        with open(fd, errors="replace") as stream, suppress(OSError):  # a terminal's end is an error of the device
            for line in stream:
                self._new.put(line.rstrip("\n"))

    def type(self, keys: bytes) -> None:
        """Press keys at the terminal."""
        os.write(self.keyboard, keys)

    def hang_up(self) -> None:
        """Close the terminal's window: its foreground processes get SIGHUP, and it takes no more output."""
        os.close(self.keyboard)
        self.keyboard = -1
        self.process.send_signal(signal.SIGHUP)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def expect(self, pattern: str) -> str:
        """The next line that matches; lines before it are skipped."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line matches {pattern!r} in:\n{self.text}") from None
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def end(self, number: int | None = None) -> int:
        """The exit status, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        if self.keyboard >= 0:
            os.close(self.keyboard)
            self.keyboard = -1
        while not self._new.empty():
            self.lines.append(self._new.get())
        return status


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Home:
    """A folder with a program, and a place for a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "home"
        self.data, self.runtime = folder / "data", folder / "run"
        self.folder.mkdir()
        self.data.mkdir()
        self.hello = self.folder / "hello.py"
        self.hello.write_text(HELLO)
        hidden = ("NO_COLOR", "COLUMNS")
        places = {"ZYGO_DATA_DIR": str(self.data), "ZYGO_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": TESTS}
        self.environment = {k: v for k, v in os.environ.items() if k not in hidden} | places
        self.commands: list[Command] = []

    def zygo(self, *args: str, terminal: bool = False, **environment: str) -> Command:
        self.commands.append(Command(self, *args, terminal=terminal, **environment))
        return self.commands[-1]

    def serving(self, *args: str) -> Command:
        """A serve of hello.py whose first revision is live."""
        command = self.zygo("serve", "hello.py", *args)
        command.expect("Serving")
        return command

    def record(self, *kinds: str) -> list[dict[str, Any]]:
        path = self.data / "record.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for line in lines if (entry := json.loads(line))["kind"] in kinds]

    def recorded(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The first `count` entries of this kind, waited for."""
        deadline = time.monotonic() + SECONDS
        while len(entries := self.record(kind)) < count:
            assert time.monotonic() < deadline, f"{len(entries)} of {count} {kind!r} in {self.record(kind)}"
            time.sleep(0.01)  # another process writes the file, and there is nothing of it to wait on
        return entries[:count]

    def answer(self, *revisions: list[dict[str, Any]]) -> None:
        (self.data / "answers.json").write_text(json.dumps(revisions))

    def post(self, path: str, body: Any) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.runtime / "control.sock"))) as client:
            client.post(f"http://zygo{path}", json=body).raise_for_status()

    def close(self) -> None:
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
            command.end()
        for pid in {entry["pid"] for entry in self.record("start")}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert asyncio.run(launch.gone(pid, 5.0))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    place = Home(tmp_path)
    yield place
    place.close()


def contents(home: Home, revision: dict[str, Any]) -> str:
    """What the user's file said in this revision."""
    import hashlib

    wanted = {file["sha256"] for file in revision["app"]["files"] if file["remote_path"].endswith("/hello.py")}
    blobs = {hashlib.sha256(b["content"].encode()).hexdigest(): b["content"] for b in home.record("blob")}
    return "".join(blobs[sha256] for sha256 in wanted)


def test_serve_publishes_the_app_and_prints_its_url(home: Home) -> None:
    command = home.zygo("serve", "hello.py")
    command.expect(r"^✓ Created hello in ")
    command.expect(r"^  square => http://127\.0\.0\.1:9/square$")
    command.expect(r"^    curl .*http://127\.0\.0\.1:9/square\?x=")
    command.expect(r"^⚡ Serving\.\.\. hit Ctrl-C to stop!$")
    command.expect(r"^  Watching .*hello\.py")
    assert command.end(signal.SIGINT) == 0
    assert command.lines[-1] == "Stopped. hello is no longer served."
    assert "\x1b" not in command.text
    (session,) = home.record("session")
    assert session["app"] == "hello"
    assert session["file"] == str(home.hello)
    (revision,) = home.record("revision")
    assert contents(home, revision) == HELLO
    home.recorded("closed", 1)


def test_events_of_the_session_are_shown(home: Home) -> None:
    command = home.serving()
    home.post("/test/emit", {"type": "log", "function": "square", "stream": "stdout", "text": "hello\n"})
    assert command.expect(r"\| hello") == "square | hello"
    home.post("/test/emit", {"type": "ping"})
    request = {"function": "square", "method": "GET", "path": "/?x=2", "status": 200, "start": "warm"}
    home.post("/test/emit", {"type": "request", "queue_ms": 0.1, "first_ms": 1, "total_ms": 2, **request})
    assert command.expect("GET") == "GET /?x=2  200  warm 2 ms  (queue 0.1, first 1)  square"
    home.post("/test/emit", {"type": "warning", "text": "no sandbox"})
    command.expect("^Warning: no sandbox")
    home.post("/test/emit", {"type": "ended", "reason": "another serve took over"})
    command.expect("^Error: The app was ended: another serve took over")
    assert command.end() == 1


def test_a_save_is_held_published_and_said(home: Home) -> None:
    command = home.serving()
    home.hello.write_text(HELLO.replace("x**2", "x**3"))
    command.expect(r"^✓ Updated hello in \d+ ms")
    one, two = home.record("revision")
    assert "x**3" in contents(home, two)
    assert one["app"]["files"] != two["app"]["files"]
    assert [entry["kind"] for entry in home.record("hold", "revision")] == ["revision", "hold", "revision"]
    assert command.text.count("=>") == 1  # an unchanged URL is not printed again


def test_a_new_function_prints_the_urls_again(home: Home) -> None:
    command = home.serving()
    home.hello.write_text(HELLO + HELLO.partition("\n\n\n")[2].replace("square", "cube"))
    command.expect("Updated")
    command.expect("square =>")
    command.expect("cube =>")


def test_an_atomic_replacement_is_a_save(home: Home) -> None:
    command = home.serving()
    for power in (3, 4):
        other = home.folder / "hello.py.new"
        other.write_text(HELLO.replace("x**2", f"x**{power}"))
        os.replace(other, home.hello)
        command.expect("Updated")
        assert f"x**{power}" in contents(home, home.record("revision")[-1])


def test_what_does_not_change_the_app_is_not_published(home: Home) -> None:
    command = home.serving()
    home.hello.touch()
    (home.folder / "data.db").write_text("x")
    (home.folder / "__pycache__").mkdir(exist_ok=True)
    (home.folder / "__pycache__" / "hello.cpython-311.pyc").write_bytes(b"x")
    home.hello.write_text(HELLO.replace("x**2", "x**3"))
    command.expect("Updated")
    assert len(home.record("revision")) == 2
    assert len(home.record("hold")) == 1


def test_code_that_does_not_load_leaves_the_old_one_and_the_next_save_takes_over(home: Home) -> None:
    command = home.serving()
    home.hello.write_text(HELLO + "\nraise RuntimeError('broken')\n")
    command.expect("^Error: ")
    command.expect("^RuntimeError: broken")
    command.expect("The old code keeps answering")
    assert "zygo/loader.py" not in command.text
    home.recorded("release", 1)
    assert len(home.record("revision")) == 1
    home.hello.write_text(HELLO)  # the very content that is live: nothing to publish
    command.expect("loads again")
    home.recorded("release", 2)
    home.hello.write_text(HELLO + "# better\n")
    command.expect("Updated")
    assert len(home.record("revision")) == 2


def test_a_syntax_error_names_its_line(home: Home) -> None:
    command = home.serving()
    home.hello.write_text(HELLO + "\ndef broken(:\n")
    command.expect(r"hello\.py.*line 12")
    command.expect("SyntaxError")


def test_a_half_written_file_is_not_complained_about(home: Home) -> None:
    command = home.serving()
    for number in range(5):
        with open(home.hello, "w") as file:
            file.write("import modal\n")
            file.flush()
            time.sleep(0.02)  # an editor that writes in two steps; the race is the point
            file.write(HELLO + f"# {number}\n")
        command.expect("Updated")
    assert "Error" not in command.text


def test_a_burst_of_saves_ends_with_the_last_one(home: Home) -> None:
    command = home.serving()
    for number in range(100):
        home.hello.write_text(HELLO + f"# {number}\n")
    deadline = time.monotonic() + SECONDS
    while not contents(home, home.record("revision")[-1]).endswith("# 99\n"):
        assert time.monotonic() < deadline
        command.expect("Updated")
    assert len(home.record("revision")) < 60


@pytest.mark.parametrize("options", [(), ("--no-reload",)], ids=["reload", "no reload"])
def test_a_save_while_the_first_state_is_sent_does_not_end_the_command(home: Home, options: tuple[str, ...]) -> None:
    (home.data / "save.json").write_text(json.dumps({str(home.hello): HELLO + "# saved\n"}))
    command = home.serving(*options)
    assert contents(home, home.record("revision")[-1]) == HELLO + "# saved\n"
    assert "Error" not in command.text
    assert command.end(signal.SIGINT) == 0


def test_new_imported_files_are_watched_and_their_deletion_is_seen(home: Home) -> None:
    command = home.serving()
    (home.folder / "helper.py").write_text("N = 1\n")
    home.hello.write_text("import helper\n" + HELLO)
    command.expect("Updated")
    (home.folder / "helper.py").write_text("N = 2\n")
    command.expect("Updated")
    (home.folder / "helper.py").unlink()
    command.expect("No module named 'helper'")
    command.expect("The old code keeps answering")
    (home.folder / "helper.py").write_text("N = 3\n")
    command.expect("Updated")
    assert len(home.record("revision")) == 4


def test_without_reload_nothing_is_watched(home: Home) -> None:
    command = home.serving("--no-reload")
    home.hello.write_text(HELLO + "# other\n")
    home.post("/test/emit", {"type": "log", "function": "square", "stream": "stdout", "text": "still here"})
    command.expect("still here")
    assert command.end(signal.SIGINT) == 0
    assert len(home.record("revision")) == 1
    assert "Watching" not in command.text


def test_a_failed_build_shows_its_words_and_keeps_the_old_revision(home: Home) -> None:
    command = home.serving()
    build = {"type": "build", "step": "pip_install", "line": "Resolving..."}
    failed = {"type": "failed", "step": "image", "message": "there is no package 'nope'"}
    home.answer([build, failed])
    home.hello.write_text(HELLO + "# 1\n")
    command.expect(r"^  pip_install \| Resolving\.\.\.$")
    command.expect("^Error: there is no package 'nope'")
    command.expect("The old code keeps answering")
    home.hello.write_text(HELLO + "# 2\n")
    command.expect("Updated")


def test_a_first_publication_that_fails_ends_the_command(home: Home) -> None:
    home.answer([{"type": "failed", "step": "import", "message": "no", "traceback": "Traceback: x"}])
    command = home.zygo("serve", "hello.py")
    command.expect("^Error: import: no")
    command.expect("^Traceback: x")
    assert command.end() == 1


def test_content_that_the_server_lost_is_sent_again(home: Home) -> None:
    import hashlib

    sha256 = hashlib.sha256(HELLO.encode()).hexdigest()
    functions = [{"name": "square", "url": "http://127.0.0.1:9/", "method": "GET", "sample": ""}]
    done = {"type": "published", "revision": "r-1", "seconds": {}, "functions": functions}
    home.answer([{"type": "missing", "sha256": [sha256]}], [done])
    home.serving()
    assert len(home.record("blob")) == 2


def test_saving_another_image_gives_up_the_outdated_build(home: Home) -> None:
    command = home.serving()
    home.answer([{"type": "step", "text": "Building"}, {"type": "hang"}])
    with_image = HELLO.replace('App("hello")', 'App("hello", image=modal.Image.debian_slim().pip_install("x"))')
    home.hello.write_text(with_image)
    command.expect("Building")
    home.hello.write_text(HELLO + "# no image\n")
    command.expect("given up")
    command.expect("Updated")
    home.recorded("gave up", 1)


def test_a_reference_to_nothing_exits_2(home: Home) -> None:
    command = home.zygo("serve", "absent.py")
    assert command.end() == 2
    assert "absent.py" in command.text
    assert "Traceback" not in command.text


def test_a_file_that_fails_exits_1_with_the_users_traceback(home: Home) -> None:
    home.hello.write_text("import modal\n\n1 / 0\n")
    command = home.zygo("serve", "hello.py")
    assert command.end() == 1
    assert "ZeroDivisionError" in command.text
    assert 'hello.py", line 3' in command.text
    assert "evaluator" not in command.text


def test_a_second_serve_is_refused_and_force_takes_over(home: Home) -> None:
    first = home.serving()
    second = home.zygo("serve", "hello.py")
    assert second.end() == 1
    assert "--force" in second.text
    third = home.zygo("serve", "hello.py", "--force")
    third.expect("Serving")
    first.expect("another serve took over")
    assert first.end() == 1


def test_the_users_prints_pass_through_and_input_meets_an_end(home: Home) -> None:
    home.hello.write_text(HELLO + "\nprint('loading')\ntry:\n    input()\nexcept EOFError:\n    print('no input')\n")
    command = home.zygo("serve", "hello.py")
    command.expect("^loading$")
    command.expect("^no input$")
    command.expect("Serving")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_of_ending_it_is_clean(home: Home, number: int) -> None:
    command = home.serving()
    children = _descendants(command.process.pid)
    assert children
    assert command.end(number) == 0
    assert "Error" not in command.text
    home.recorded("closed", 1)
    for pid in children - {entry["pid"] for entry in home.record("start")}:
        assert asyncio.run(launch.gone(pid, 5.0))


def test_a_killed_serve_leaves_nothing_but_the_server(home: Home) -> None:
    command = home.serving()
    children = _descendants(command.process.pid)
    command.end(signal.SIGKILL)
    home.recorded("closed", 1)
    for pid in children - {entry["pid"] for entry in home.record("start")}:
        assert asyncio.run(launch.gone(pid, 5.0))


def test_ctrl_c_while_the_file_is_loading_is_quick_and_clean(home: Home) -> None:
    home.hello.write_text("import time\nprint('in')\ntime.sleep(600)\n")
    command = home.zygo("serve", "hello.py")
    command.expect("^in$")
    children = _descendants(command.process.pid)
    assert command.end(signal.SIGINT) == 0
    for pid in children - {entry["pid"] for entry in home.record("start")}:
        assert asyncio.run(launch.gone(pid, 5.0))
    assert "Traceback" not in command.text


def test_the_time_limit_ends_it(home: Home) -> None:
    command = home.zygo("serve", "hello.py", "--timeout", "4")
    assert command.end() == 0
    assert command.lines[-1].startswith("Stopped.")


def test_a_server_killed_under_it_is_started_again_and_gets_the_app(home: Home) -> None:
    command = home.serving()
    (start,) = home.record("start")
    os.kill(start["pid"], signal.SIGKILL)
    command.expect("^Warning: The server went away. Starting the server again")
    command.expect("Created hello")
    assert len(home.record("start")) == 2
    home.hello.write_text(HELLO + "# after\n")
    command.expect("Updated")
    assert command.end(signal.SIGINT) == 0


def test_a_reader_that_goes_away_ends_it(home: Home) -> None:
    script = f"exec {sys.executable} -P -c '{ZYGO}' serve hello.py --name other | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script], cwd=home.folder, env=home.environment, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert "Created other" in done.stdout
    assert "Traceback" not in done.stderr


def test_at_a_terminal_a_broken_file_is_waited_for_and_ctrl_c_ends_it(home: Home) -> None:
    home.hello.write_text("import modal\n\n1 / 0\n")
    command = home.zygo("serve", "hello.py", terminal=True, TERM="xterm")
    command.expect("ZeroDivisionError")
    command.expect(r"Waiting for hello\.py to be saved")
    home.hello.write_text(HELLO)
    command.expect("Created hello")
    command.expect("Serving")
    assert "\x1b[" in command.text
    command.type(b"\x03")
    assert command.end() == 0
    assert "Stopped. hello is no longer served." in command.text
    assert "Traceback (most recent call last)" not in command.text.rpartition("Serving")[2]


def test_at_a_terminal_a_failed_first_publication_is_mended_by_a_save(home: Home) -> None:
    home.answer([{"type": "failed", "step": "image", "message": "no such package"}])
    command = home.zygo("serve", "hello.py", terminal=True, TERM="xterm")
    command.expect("no such package")
    home.hello.write_text(HELLO + "# mended\n")
    command.expect("hello in .* ms|Created hello")
    command.expect("Serving")


def test_closing_the_terminal_ends_it(home: Home) -> None:
    command = home.zygo("serve", "hello.py", terminal=True, TERM="xterm")
    command.expect("Serving")
    children = _descendants(command.process.pid)
    command.hang_up()
    assert command.process.wait(SECONDS) == 0
    home.recorded("closed", 1)
    for pid in children - {entry["pid"] for entry in home.record("start")}:
        assert asyncio.run(launch.gone(pid, 5.0))


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--version"], 0, r"^zygo \d"),
        (["serve"], 2, "Missing argument"),
        (["serve", "a.py", "--nonsense"], 2, "No such option"),
        (["shell", "hello.py"], 1, "`zygo shell` comes with a later release"),
        (["secret", "create", "x", "secret-word"], 1, "Value 1 is not KEY=VALUE"),
        (["server", "status"], 1, "No server runs"),
        (["server", "stop"], 0, "No server runs"),
        (["server", "status", "--json"], 1, '"running": false'),
    ],
)
def test_commands_and_their_exit_codes(home: Home, args: list[str], status: int, said: str) -> None:
    command = home.zygo(*args)
    assert command.end() == status
    assert re.search(said, command.text, re.MULTILINE), command.text
    assert "Traceback" not in command.text


def test_a_bad_setting_is_named(home: Home) -> None:
    command = home.zygo("server", "status", ZYGO_PORT="many")
    assert command.end() == 1
    assert "ZYGO_PORT" in command.text


def test_the_server_by_hand(home: Home) -> None:
    started = home.zygo("server", "start")
    assert started.end() == 0
    assert "gateway is 127.0.0.1:8000" in started.text
    again = home.zygo("server", "start", "--json")
    assert again.end() == 0
    pid = json.loads(again.text)["pid"]
    status = home.zygo("server", "status")
    assert status.end() == 0
    assert f"pid {pid}" in status.text
    logs = home.zygo("server", "logs", "-n", "2")
    assert logs.end() == 0
    assert logs.lines == ["line 0", "line 1"]
    stopped = home.zygo("server", "stop")
    assert stopped.end() == 0
    assert asyncio.run(launch.gone(pid, 0.0))
    assert len(home.record("start")) == 1


def _descendants(pid: int) -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def test_a_server_that_a_newer_command_replaces_is_waited_for(home: Home) -> None:
    command = home.serving()
    overlay = home.data / "status.json"
    overlay.write_text(json.dumps({"version": "0.0.1"}))  # what the running server says of itself from now on
    newer = home.zygo("server", "start")
    home.recorded("stop", 1)
    overlay.unlink()
    assert newer.end() == 0
    command.expect("replaced by another version")
    command.expect("Created hello")
    assert command.end(signal.SIGINT) == 0


def test_a_server_that_is_stopped_by_hand_ends_the_command(home: Home) -> None:
    command = home.serving()
    stopped = home.zygo("server", "stop")
    assert stopped.end() == 0
    command.expect("^Error: The app was ended: the server is stopping")
    assert command.end() == 1
    assert len(home.record("start")) == 1
