"""Run zygo as its users do: the real command in a process of its own, the real server, real HTTP.

    with Place() as place, place.serve("hello.py") as serve:
        answer = serve.get("square", params={"x": 6})        # an httpx.Response
        assert answer.json() == {"square": 36}
        serve.save("hello.py", new_text)                      # in place; atomic=True replaces the file by rename
        serve.wait_for(r"Updated hello in")                   # a line of its output, from where the last wait ended
    assert place.leftovers() == []

A `Place` is a data directory, a runtime directory and an environment, below one fresh directory whose path marks every
process that belongs to it. It starts nothing by itself; `close` ends its server and kills and removes what is left.

    place.serve(file, *options, cwd=, env=, terminal=, wait=)  -> Serve   `zygo serve FILE OPTIONS...`, as a context
    place.deploy(file, *options, cwd=, env=)                   -> the JSON of `zygo deploy --json FILE OPTIONS...`, a dict
    place.zygo(*arguments)                                     -> Finished(code, text)   any command, run to its end
    place.status()       what the server says of itself (a dict), None when none answers
    place.server_pid()   its pid, None when none answers;   place.start_server(), stop_server(), kill_server()
    place.processes()    every process that belongs to it, with its kind
    place.leftovers()    what is there beyond a server and its idle image zygotes: one text per thing, [] when clean
    place.settle()       waits until nothing is left over; raises with the list

    serve.wait_for(pattern, timeout=)  the match of the next line that contains it; fails at once when the command ends;
                                       anywhere=True: of any line, for what comes in no certain order
    serve.seen(pattern)                the match in what was printed already, None without one; does not wait
    serve.lines, serve.text            everything printed so far, stdout and stderr merged
    serve.url(function), serve.hostname_url(function)     as printed
    serve.get / post / request(function, ..., path=)      httpx, connection closed after each
    serve.save(path, text, atomic=False), serve.delete(path)      below the program's folder
    serve.stop() -> exit status after SIGINT; serve.signal(number); serve.kill(); serve.hang_up() (closes its terminal);
    serve.close_output() (closes its pipe)

Every wait has a deadline and fails with everything the command printed. `HarnessError` is an AssertionError.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from zygo.engine.images import GROUP_PREFIX
from zygo.testing import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SECONDS = 60.0
"""How long a wait lasts before it fails: a first image is built within it on a slow machine."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

PAUSE = 0.01
"""Between two looks at what sends no events (files, control groups)."""


class HarnessError(AssertionError):
    """Something that a test waited for did not happen; the text has all that was printed."""


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit status, and what it printed to stdout and stderr, merged."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class Place:
    """A server's directories and environment, for one test or many.

    Arguments:
        env: variables on top of those of this process, from which zygo's and Modal's own are removed; None removes one.
        python: the interpreter whose `zygo` is run.
        prefix: a command that runs the command that follows it (another user, other namespaces).
    """

    def __init__(
        self,
        env: Mapping[str, str | None] | None = None,
        *,
        python: str = sys.executable,
        prefix: Sequence[str] = (),
        root: Path | None = None,
    ) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="zg"))
        self.data, self.runtime = self.root / "data", self.root / "run"
        self.python, self.prefix = python, tuple(prefix)
        self.environment = clean_environment() | {
            "ZYGO_DATA_DIR": str(self.data),
            "ZYGO_RUNTIME_DIR": str(self.runtime),
            "ZYGO_PORT": "0",
        }
        for name, value in (env or {}).items():
            self.environment.pop(name, None)
            if value is not None:
                self.environment[name] = value

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def command(self) -> list[str]:
        """What runs `zygo`."""
        script = Path(self.python).with_name("zygo")
        return [*self.prefix, *([str(script)] if script.exists() else [self.python, "-P", "-m", "zygo.cli.main"])]

    def serve(self, file: str | Path, *options: str, **how: Any) -> Serve:
        """`zygo serve FILE OPTIONS...`; see Serve for `how`."""
        return Serve(self, file, *options, **how)

    def zygo(
        self,
        *arguments: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = SECONDS,
    ) -> Finished:
        """Run a command to its end. Raises HarnessError when it does not end in `timeout` seconds."""
        try:
            done = subprocess.run(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cwd,
                env={**self.environment, **(env or {})},
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            printed = error.stdout.decode("utf-8", "replace") if isinstance(error.stdout, bytes) else error.stdout
            raise HarnessError(f"zygo {' '.join(arguments)} did not end in {timeout:g} s:\n{printed}") from None
        return Finished(done.returncode, done.stdout)

    def deploy(
        self, file: str | Path, *options: str, cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """`zygo deploy FILE OPTIONS...`: its result, with `version` and `urls` by function. Raises HarnessError when it fails.

        The app stays until `zygo app stop`, or until the place is closed.
        """
        command = [*self.command, "deploy", str(file), "--json", *options]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**self.environment, **(env or {})},
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise HarnessError(f"zygo deploy {file} failed ({done.returncode}):\n{done.stdout}\n{done.stderr}")
        result = dict(json.loads(done.stdout))
        result["urls"] = {function["name"]: function["url"] for function in result["functions"]}
        return result

    def status(self) -> dict[str, Any] | None:
        """What the server says of itself; None when none answers."""
        with contextlib.closing(_Control(str(self.runtime / "control.sock"))) as control:
            try:
                control.request("GET", "/v1/status")
                return dict(json.loads(control.getresponse().read()))
            except (OSError, http.client.HTTPException, ValueError):
                return None

    def server_pid(self) -> int | None:
        """The server's pid; None when none answers."""
        status = self.status()
        return int(status["pid"]) if status else None

    def start_server(self) -> int:
        """Start the server, or find it; its pid."""
        done = self.zygo("server", "start")
        pid = self.server_pid()
        if done.code or pid is None:
            raise HarnessError(f"the server did not start:\n{done.text}\n{self.server_log()}")
        return pid

    def stop_server(self) -> None:
        """`zygo server stop`; returns when its process is gone."""
        done = self.zygo("server", "stop")
        if done.code:
            raise HarnessError(f"the server did not stop:\n{done.text}\n{self.server_log()}")

    def kill_server(self) -> None:
        """kill -9; returns when its process is gone."""
        pid = self.server_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            processes.wait_gone([pid])

    def server_log(self) -> str:
        """The server's own log."""
        try:
            return (self.data / "logs" / "server.log").read_text("utf-8", "replace")
        except OSError:
            return ""

    def processes(self) -> list[processes.Process]:
        """Every process whose command line, environment or mounts name this place."""
        return processes.marked(str(self.root))

    def leftovers(self) -> list[str]:
        """What is there beyond one server and its idle image zygotes, which it keeps for the next app."""
        pid = self.server_pid()
        kept = ("server", "image") if pid is not None else ()
        found = [f"process {p.pid} ({p.kind}): {p.command[:160]}" for p in self.processes() if p.kind not in kept]
        sockets = [path for path in self.runtime.rglob("*") if path.is_socket()]
        names = ("control.sock", "calls.sock", "doors/server.sock", "doors/calls/calls.sock")
        own = {self.runtime / name for name in names} if pid is not None else set()
        found += [f"socket {path}" for path in sockets if path not in own]
        for folder in ("revisions", "staging"):
            here = self.data / folder
            found += [f"files {path}" for path in (here.iterdir() if here.is_dir() else ()) if path.name != ".probe"]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if str(self.root) in line]
        found += [f"cgroup {path}" for path in self.cgroups() if not (pid and path.name.startswith(GROUP_PREFIX))]
        return found

    def cgroups(self) -> list[Path]:
        """The control group directories of this place's containers and zygotes."""
        name = "zygo-" + hashlib.sha256(str(self.data.resolve()).encode()).hexdigest()[:8]
        groups = []
        for path, folders, _ in os.walk("/sys/fs/cgroup"):
            if os.path.basename(path) == name:
                groups += [Path(path, folder) for folder in folders]
                folders.clear()
        return groups

    def settle(self, seconds: float = 15.0) -> None:
        """Wait until nothing is left over; raises HarnessError with the list."""
        deadline = time.monotonic() + seconds
        while left := self.leftovers():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise HarnessError("left over:\n" + "\n".join(left) + f"\nserver log:\n{self.server_log()[-4000:]}")
            pids = [int(text.split()[1]) for text in left if text.startswith("process ")]
            if not (pids and processes.wait_gone(pids[:1], remaining)):
                time.sleep(PAUSE)

    def close(self) -> None:
        """End the server, kill what belongs to this place, remove its directories. May be called twice."""
        with contextlib.suppress(HarnessError):
            if self.server_pid() is not None:
                self.stop_server()
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
                processes.wait_gone([process.pid])
        shutil.rmtree(self.root, ignore_errors=True)


class Serve:
    """A running `zygo serve`. A context manager: entering waits until it serves, leaving ends it with SIGINT.

    Arguments:
        file: the program, or what stands for it with `-m`; relative to `cwd`.
        cwd: where the command runs; default: the file's folder. Also the folder of `save` and `delete`.
        env: variables for this command alone. A server that it starts inherits them.
        terminal: run it on a terminal of its own (a pty), as a person would; else its output is a pipe.
        wait: False to enter at once, without waiting for the URLs.
    """

    def __init__(
        self,
        place: Place,
        file: str | Path,
        *options: str,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        terminal: bool = False,
        wait: bool = True,
    ) -> None:
        self.place = place
        path = Path(file)
        self.folder = Path(cwd) if cwd is not None else path.resolve().parent
        shown = os.path.relpath(path, self.folder) if cwd is None else str(file)
        self.command = [*place.command, "serve", shown, *options]
        self.lines: list[str] = []
        self.wait = wait
        self._environment = {**place.environment, **(env or {})}
        self._terminal = terminal
        self._master = -1
        self._wake: tuple[int, ...] = ()
        self._new = threading.Condition()
        self._read_to = 0
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        # Nothing here speaks TLS, and loading the certificates for each request would take longer than the request.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(verify=False, trust_env=False, limits=limits, timeout=SECONDS)

    def __enter__(self) -> Serve:
        self._start()
        if self.wait:
            try:
                self.wait_for(r"Serving\.\.\.")
            except BaseException:
                self.kill()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        if self.running:
            self.signal(signal.SIGINT)
        try:
            self.exit_status()
        except HarnessError:
            self.kill()
            if error[0] is None:
                raise
        finally:
            self._client.close()

    def _start(self) -> None:
        options: dict[str, Any] = {"cwd": self.folder, "env": self._environment}
        if self._terminal:
            self._master, slave = pty.openpty()
            termios.tcsetwinsize(slave, (40, 160))
            self._process = subprocess.Popen(
                self.command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=_take_terminal, **options
            )
            os.close(slave)
            reader = self._master
        else:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
            )
            assert self._process.stdout is not None
            reader = os.dup(self._process.stdout.fileno())
            self._process.stdout.close()
        self._wake = os.pipe()
        self._reader = threading.Thread(target=self._read, args=(reader,), name="serve output", daemon=True)
        self._reader.start()

    def _read(self, fd: int) -> None:
        rest = b""
        while self._wake[0] not in select.select([fd, self._wake[0]], [], [])[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:  # the other side of a terminal was closed
                data = b""
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            self._add(lines)
        self._add([rest] if rest else [])
        with self._new:
            self._ended = True
            self._new.notify_all()
        if not self._terminal:
            os.close(fd)

    def _add(self, lines: list[bytes]) -> None:
        with self._new:
            self.lines += [line.decode("utf-8", "replace").rstrip("\r") for line in lines]
            self._new.notify_all()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def text(self) -> str:
        """Everything printed so far."""
        with self._new:
            return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = SECONDS, *, anywhere: bool = False) -> re.Match[str]:
        """The match of the first line that contains `pattern`, among those not passed by an earlier wait.

        `anywhere`: among all of them, for what comes in no certain order (output of a function and the log of its
        request, for one); nothing is passed then.
        """
        deadline = time.monotonic() + timeout
        with self._new:
            at = 0 if anywhere else self._read_to
            while True:
                while at < len(self.lines):
                    at += 1
                    self._read_to = self._read_to if anywhere else at
                    if match := re.search(pattern, self.lines[at - 1]):
                        return match
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "the command ended without" if self._ended else f"{timeout:g} s passed without"
                    raise HarnessError(f"{why} a line like {pattern!r}:\n" + "\n".join(self.lines))
                self._new.wait(left)

    def seen(self, pattern: str) -> re.Match[str] | None:
        """The last match of `pattern` in what was printed so far."""
        with self._new:
            return next((m for line in reversed(self.lines) if (m := re.search(pattern, line))), None)

    def skip(self) -> None:
        """Let the next `wait_for` look only at what comes from now on."""
        with self._new:
            self._read_to = len(self.lines)

    def url(self, function: str) -> str:
        """The URL printed last for `function`."""
        return self._urls(function)[0]

    def hostname_url(self, function: str) -> str:
        """The URL with its hostname, printed as the first one or below it."""
        url, also = self._urls(function)
        return also or url

    def _urls(self, function: str) -> tuple[str, str]:
        lines = _ESCAPES.sub("", self.text).splitlines()
        for number in range(len(lines) - 1, -1, -1):
            if match := re.match(rf"\s*{re.escape(function)} => (http\S+)", lines[number]):
                also = re.match(r"\s*also (http\S+)", "".join(lines[number + 1 : number + 2]))
                return match[1], also[1] if also else ""
        raise HarnessError(f"no URL was printed for {function!r}:\n{self.text}")

    def request(self, method: str, function: str, *, path: str = "", **how: Any) -> httpx.Response:
        """One request on a connection of its own; `how` goes to httpx. `path` starts with a slash."""
        return self._client.request(method, self.url(function) + path, **how)

    def get(self, function: str, **how: Any) -> httpx.Response:
        return self.request("GET", function, **how)

    def post(self, function: str, **how: Any) -> httpx.Response:
        return self.request("POST", function, **how)

    def save(self, path: str | Path, text: str | bytes, *, atomic: bool = False) -> None:
        """Write a file below the program's folder: in place, or as a new file that replaces the old one."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        if not atomic:
            target.write_bytes(data)
            return
        staged = target.with_name(f".{target.name}.new")
        staged.write_bytes(data)
        staged.replace(target)

    def delete(self, path: str | Path) -> None:
        (self.folder / path).unlink()

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def exit_status(self, timeout: float = 20.0) -> int:
        """Wait for the command's end; its status, negative for a signal."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HarnessError(f"the command did not end in {timeout:g} s:\n{self.text}") from None
        self._reader.join(timeout)
        self._close_files()
        return status

    def stop(self, timeout: float = 20.0) -> int:
        """Ctrl-C; the exit status."""
        self.signal(signal.SIGINT)
        return self.exit_status(timeout)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self.exit_status()

    def hang_up(self, timeout: float = 20.0) -> int:
        """Close its terminal, as when a window is closed; the exit status."""
        os.write(self._wake[1], b"x")
        self._reader.join(timeout)
        self._close_files()
        return self.exit_status(timeout)

    def close_output(self) -> None:
        """Stop reading what it prints and close that end: the reader of its pipe has ended."""
        os.write(self._wake[1], b"x")
        self._reader.join()

    def _close_files(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        for end in self._wake:
            os.close(end)
        self._wake = ()


class _Control(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("zygo", timeout=10.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10.0)
        self.sock.connect(self._path)


def clean_environment() -> dict[str, str]:
    """This process's environment without zygo's and Modal's variables and without what changes the output."""
    hidden = ("ZYGO_", "MODAL_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONPATH", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


def until(check: Callable[[], Any], seconds: float = SECONDS, what: str = "") -> Any:
    """The first true value of `check`, for what sends no events. Raises HarnessError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > deadline:
            raise HarnessError(f"{seconds:g} s passed without {what or getattr(check, '__name__', 'it')}")
        time.sleep(PAUSE)
    return value


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
