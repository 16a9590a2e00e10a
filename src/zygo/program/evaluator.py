"""The warm loader's process: `python -P -m zygo.program.evaluator FD`, started by `reload`.

It imports what is expensive and does not change (zygo's own loader, the third-party modules of the last evaluation)
and then forks a child for each evaluation, so that the user's own modules are imported anew every time and nothing
that they do stays behind. Requests and answers are lines of JSON on the socket FD:

    {"op": "evaluate", "ref": {...}, "name": ..., "seconds": n}
                 ->  {"evaluated": ...} | {"error": ...} | {"cancelled": true}
    {"op": "cancel"}                     ends the running evaluation
    {"op": "preload", "modules": [...]}  no answer

The traps: the process leads a session of its own, so that neither Ctrl-C nor a prompt of the user's code reaches the
terminal's owner; each child leads a process group, which is killed whole after its answer, since a module may have
started processes while it was imported; and the end of the socket (however the command died) ends everything.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import site
import socket
import struct
import sys
import sysconfig
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import Any

from zygo import alias, errors, loader, model

_LENGTHS = struct.Struct("!QQ")
"""Of a child's two messages: the answer, and the names of what it had to import from zygo and the standard library."""

_PR_SET_PDEATHSIG = 1


def _folders(*paths: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.join(path, "") for path in paths if path))


_STANDARD = _folders(sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_PACKAGES = _folders(
    *(sysconfig.get_path(key) for key in ("purelib", "platlib")), *site.getsitepackages(), site.getusersitepackages()
)


def main(fd: int) -> None:
    """Answer requests until the other end of the socket `fd` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alias.install()
    gc.freeze()
    control = _Control(socket.socket(fileno=fd))
    preloaded: list[str] = []
    with suppress(ConnectionError):  # the command is gone, perhaps before it took its answer
        while (request := control.receive(None)) is not None:
            if request["op"] == "evaluate":
                _evaluate(control, request, preloaded)
            elif request["op"] == "preload":
                preloaded += _preload(request["modules"])


class _Control:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def receive(self, seconds: float | None) -> dict[str, Any] | None:
        """The next request; None at the end of the socket. Raises TimeoutError."""
        self.sock.settimeout(seconds)
        while b"\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def send(self, answer: dict[str, Any] | bytes) -> None:
        self.sock.settimeout(None)
        self.sock.sendall((answer if isinstance(answer, bytes) else json.dumps(answer).encode()) + b"\n")


def _evaluate(control: _Control, request: dict[str, Any], preloaded: list[str]) -> None:
    read_end, write_end = os.pipe()
    # The child's stack at its deadline, by faulthandler: Python cannot run code in a thread that hangs in C.
    with tempfile.TemporaryFile() as stack:
        ours = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            control.sock.close()
            _child(request, preloaded, write_end, stack, ours)
        with suppress(OSError):
            os.setpgid(pid, pid)  # both sides do it, so that it is done whoever comes first
        os.close(write_end)
        common: list[str] = []
        try:
            messages, cancelled = _collect(control, read_end, float(request["seconds"]))
            if messages is not None:
                control.send(messages[0])  # before the child is reaped: it is what is waited for
                common = json.loads(messages[1])
        finally:
            os.close(read_end)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        if cancelled:
            control.send({"cancelled": True})
        elif messages is None:
            stack.seek(0)
            control.send({"error": _lost(request, status, stack.read().decode("utf-8", "replace"))})
        _preload(common)


def _collect(control: _Control, read_end: int, seconds: float) -> tuple[tuple[bytes, bytes] | None, bool]:
    """The child's messages, None when it ended or ran out of time without; and whether it was to be cancelled."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    poll.register(control.sock, select.POLLIN)
    received = b""
    while (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            if fd == control.sock.fileno():
                request = control.receive(None)
                if request is None:
                    return None, True
                if request["op"] == "cancel":
                    return None, True
                continue
            chunk = os.read(read_end, 1 << 16)
            received += chunk
            # By length and not by the end of the pipe: a process that the user's module forked may hold it open.
            if len(received) >= _LENGTHS.size:
                one, two = _LENGTHS.unpack_from(received)
                if len(received) >= _LENGTHS.size + one + two:
                    rest = received[_LENGTHS.size :]
                    return (rest[:one], rest[one : one + two]), False
            if not chunk:
                return None, False
    return None, False


def _lost(request: dict[str, Any], status: int, stack: str) -> dict[str, Any]:
    what = request["ref"].get("path") or request["ref"].get("module")
    if stack:
        text = f"{what} was still being loaded after {request['seconds']:g} s. What takes so long?"
        return errors.to_json(errors.UserCodeError(text, traceback=_trim_stack(stack, str(what))))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        how = f"its interpreter was ended by {name}"
    else:
        how = f"it ended its interpreter (exit status {code})"
    answer = errors.to_json(errors.UserCodeError(f"{what} could not be loaded: {how}."))
    answer["crashed"] = True
    return answer


def _trim_stack(stack: str, what: str) -> str:
    """faulthandler prints the innermost frame first; ours are at the end and of no interest."""
    lines = [line for line in stack.splitlines() if line.startswith("  File ")]
    last = max((i for i, line in enumerate(lines) if what and os.path.basename(what) in line), default=None)
    return "\n".join(["Stack (innermost call first):", *lines[: None if last is None else last + 1]])


def _child(request: dict[str, Any], preloaded: list[str], write_end: int, stack: Any, parent: int) -> None:
    """Evaluate, answer, end. Never returns."""
    try:
        os.setpgid(0, 0)
        _die_with_parent(True)
        if parent != os.getppid():
            os._exit(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        faulthandler.dump_traceback_later(max(0.1, float(request["seconds"]) - 0.2), file=stack)
        before = frozenset(sys.modules)
        answer = json.dumps(_answer(request, preloaded)).encode()
        common = json.dumps(_common(before)).encode()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        view = memoryview(_LENGTHS.pack(len(answer), len(common)) + answer + common)
        while view:
            view = view[os.write(write_end, view) :]
    finally:
        # Not sys.exit: the user's atexit handlers and non-daemon threads may wait for ever.
        os._exit(0)


def _answer(request: dict[str, Any], preloaded: list[str]) -> dict[str, Any]:
    ref = loader.AppRef(**request["ref"])
    what = ref.path or ref.module or ""
    sys.argv = [what]
    _unshadow(preloaded, os.path.dirname(os.path.abspath(ref.path)) if ref.path else os.getcwd())
    importlib.invalidate_caches()
    try:
        evaluated = loader.evaluate(ref)
        if request["name"]:
            evaluated = replace(evaluated, app=replace(evaluated.app, name=request["name"]))
        return {"evaluated": model.encode(evaluated)}
    except errors.Error as error:
        return {"error": errors.to_json(error)}
    except SystemExit as error:
        text = (
            f"{what} calls sys.exit({error.code!r}) while it is loaded. "
            'Put it under `if __name__ == "__main__":`, which is not run here.'
        )
        return {"error": errors.to_json(errors.UserCodeError(text))}
    except BaseException as error:
        return {"error": errors.to_json(_unexpected(what, error))}


def _unexpected(what: str, error: BaseException) -> errors.Error:
    """KeyboardInterrupt and its kind come from the user's file; an exception without a frame there is our fault."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    users = [frame for frame in frames if not frame.filename.startswith((ours, "<frozen importlib"))]
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if not users:
        return errors.InternalFailure(f"Evaluating {what} failed. {text}\n{''.join(traceback.format_list(frames))}")
    shown = ["Traceback (most recent call last):\n", *traceback.format_list(users), text]
    return errors.UserCodeError(f"{what}: {text}", "".join(shown), users[-1].filename, users[-1].lineno)


def _common(before: frozenset[str]) -> list[str]:
    """What this child imported that belongs to zygo or to Python itself, and so is the same for every child."""
    found = []
    for name, module in list(sys.modules.items()):
        if name not in before and (origin := getattr(getattr(module, "__spec__", None), "origin", None)):
            standard = origin in ("built-in", "frozen") or (origin.startswith(_STANDARD) and "-packages" not in origin)
            if standard or name.startswith("zygo."):
                found.append(name)
    return found


def _unshadow(preloaded: list[str], folder: str) -> None:
    """Forget preloaded modules that the user's folder has too: there, as in any Python, the folder wins."""
    for name in preloaded:
        top = name.partition(".")[0]
        base = os.path.join(folder, top)
        if os.path.exists(base + ".py") or os.path.exists(os.path.join(base, "__init__.py")):
            for key in [key for key in sys.modules if key == top or key.startswith(top + ".")]:
                del sys.modules[key]


def _preload(names: list[str]) -> list[str]:
    """Import `names`, silently and one by one; those that are installed (and not being developed) and work."""
    if not names:
        return []
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    done = []
    # An import that hangs would not see the socket's end.
    _die_with_parent(True)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        for name in names:
            # What fails here fails again where the user can see it, in their own module.
            with suppress(BaseException):
                if name not in sys.modules and not name.startswith("zygo.") and not _installed(name):
                    continue
                importlib.import_module(name)
                done.append(name)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, fd in enumerate(saved, start=1):
            os.dup2(fd, number)
            os.close(fd)
        os.close(null)
        _die_with_parent(False)
    gc.collect()
    gc.freeze()
    return done


def _installed(name: str) -> bool:
    """Whether `name` is a module of an installed distribution; an editable one changes like the user's own."""
    spec = importlib.util.find_spec(name)
    origin = (spec.origin if spec else None) or ""
    if origin in ("built-in", "frozen"):
        return True
    return origin.startswith(_STANDARD + _PACKAGES)


def _die_with_parent(on: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if on else 0, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
