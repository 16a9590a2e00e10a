"""A server's sockets on this machine, through OpenSSH.

    ssh HOST zygo server attach    starts the server there if none runs, tells where its sockets are, stays until we end
    ssh -O forward                 over the same connection: two sockets here that lead to those there

One connection carries everything, made with the user's own configuration, keys and agent. What it needs on the server is
sshd and the `zygo` command. It ends with this process, however that ends: the command there sees the end of its input.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from zygo import errors

if TYPE_CHECKING:
    from zygo.sdk.where import Remote

CONNECT_SECONDS = 10
"""For a connection, without what the server needs to start."""

START_SECONDS = 90.0
"""For the connection and the server's start there."""

ALIVE_SECONDS = 5
ALIVE_COUNT = 3
"""A connection over which nothing has come for 15 s is given up."""

MARK = "zygo-attach "
"""Before the line that `zygo server attach` prints: a shell's start file may print, too."""

# Not a login shell: what `pip install --user`, uv and pipx install is often not on its path.
_ATTACH = """exec sh -c 'PATH="$PATH:$HOME/.local/bin:/usr/local/bin"; exec zygo server attach'"""

_HOST_KEY = ("host key verification failed", "host identification has changed")

_WHERE_TO_LOOK = (
    ("could not resolve", "Check how the name is written, here or in ~/.ssh/config, and its DNS record."),
    (
        "connection refused",
        "Nothing listens there: see that sshd runs, and that PORT is its port (ssh://user@host:port).",
    ),
    ("timed out", "It is off or away, or a firewall drops what comes for its port PORT."),
    ("no route to host", "Check this machine's network, and the address."),
    ("network is unreachable", "Check this machine's network, and the address."),
    ("connection closed", "Its sshd lets nobody in now; its log says why: journalctl -u ssh"),
    ("connection reset", "Its sshd lets nobody in now; its log says why: journalctl -u ssh"),
)
"""What ssh prints, in small letters -> what to do about it."""


class Tunnel:
    """The way to one server. `open` before use, as often as wanted; it connects again when the connection was lost."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
        self._folder = tempfile.mkdtemp(prefix="zygo-", dir=base if os.access(base, os.W_OK) else None)
        self.control = os.path.join(self._folder, "control.sock")
        self.calls = os.path.join(self._folder, "calls.sock")
        self._master = os.path.join(self._folder, "ssh")
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        atexit.register(self.close)

    def open(self) -> None:
        """Connect unless it is connected; blocks. Raises ConnectionError, AuthError and what the server's start raises."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._end()
            try:
                there = self._attach()
                self._forward(there)
            except BaseException:
                self._end()
                raise

    def close(self) -> None:
        """End the connection. May be called twice."""
        with self._lock:
            self._end()
            self._said.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def said(self) -> str:
        """What ssh has printed as its errors, the end of it."""
        if self._said.closed:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return "\n".join(line.rstrip() for line in lines[-6:])

    def _command(self, *options: str) -> list[str]:
        where = self.remote
        destination = f"{where.user}@{where.host}" if where.user else where.host
        port = ["-p", str(where.port)] if where.port else []
        own = shlex.split(os.environ.get("ZYGO_SSH", "") or "ssh")
        return [*own, "-S", self._master, *options, *port, "--", destination]

    def _attach(self) -> dict[str, Any]:
        keep = f"ServerAliveInterval={ALIVE_SECONDS}", f"ServerAliveCountMax={ALIVE_COUNT}"
        given: tuple[str, ...] = (
            "BatchMode=yes",
            "ControlMaster=yes",
            "ControlPersist=no",
            f"ConnectTimeout={CONNECT_SECONDS}",
            *keep,
        )
        given = (*given, "StreamLocalBindUnlink=yes", "StreamLocalBindMask=0177", "PermitLocalCommand=no")
        options = [part for option in given for part in ("-o", option)]
        self._said.seek(0)
        self._said.truncate()
        try:
            # Not in the terminal's group: at Ctrl-C there is a goodbye to be said over it.
            process = subprocess.Popen(
                [*self._command("-T", "-x", "-a", *options), _ATTACH],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            raise errors.ConnectionError(
                f"ssh cannot be started: {error.strerror}. Install OpenSSH's client."
            ) from None
        self._process = process
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.decode("utf-8", "replace").strip()
                if text.startswith(MARK):
                    there: dict[str, Any] = json.loads(text[len(MARK) :])
                    if "error" in there:
                        raise errors.from_json(there["error"])
                    return there
        finally:
            timer.cancel()
        raise failure(self.remote, process.wait(), self.said())

    def _forward(self, there: dict[str, Any]) -> None:
        pairs = ((self.control, there["control"]), (self.calls, there["calls"]))
        options = [part for here, far in pairs for part in ("-L", f"{here}:{far}")]
        done = subprocess.run(
            self._command("-O", "forward", *options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CONNECT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise errors.ConnectionError(f"ssh does not pass sockets on from {self.remote.name}: {done.stderr.strip()}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        for path in (self.control, self.calls, self._master):
            with contextlib.suppress(OSError):
                os.unlink(path)


def failure(remote: Remote, status: int, said: str) -> errors.Error:
    """Why there is no connection, by ssh's exit status and what it printed."""
    name, lower = remote.name, said.lower()
    if status == 127:
        return errors.ConnectionError(
            f"There is no `zygo` command on {name}, or it is not on the path of `ssh {remote.host} zygo`. Install it there: "
            "uv tool install zygo"
        )
    if status != 255:
        if "no such command" in lower:
            return errors.VersionError(f"The zygo on {name} is too old to be worked with from here. Upgrade it there.")
        return errors.ConnectionError(f"zygo on {name} ended with status {status}:\n{said or '  (it printed nothing)'}")
    if any(text in lower for text in _HOST_KEY):
        return errors.AuthError(
            f"ssh does not trust the host key of {name}:\n{said}\n"
            f"Connect once by hand and compare the key: ssh {_by_hand(remote)}"
        )
    if "permission denied" in lower or "too many authentication failures" in lower:
        return errors.AuthError(
            f"ssh was refused at {name}: {said.splitlines()[-1]}\nNothing can be typed here: it needs a key that ssh finds "
            f"by itself, or one in an agent. Try: ssh -o BatchMode=yes {_by_hand(remote)} true"
        )
    hint = next((hint for text, hint in _WHERE_TO_LOOK if text in lower), "Try by hand: ssh " + _by_hand(remote))
    return errors.ConnectionError(
        f"ssh cannot reach {name}: {said or 'it said nothing'}\n{hint.replace('PORT', str(remote.tcp_port))}"
    )


def _by_hand(remote: Remote) -> str:
    user = f"{remote.user}@" if remote.user else ""
    return f"{f'-p {remote.port} ' if remote.port else ''}{user}{remote.host}"


_tunnels: dict[Remote, Tunnel] = {}
_making = threading.Lock()


def tunnel(remote: Remote) -> Tunnel:
    """This process's tunnel to `remote`, open; blocks. Raises what `Tunnel.open` does."""
    with _making:
        found = _tunnels.get(remote)
        if found is None:
            found = _tunnels[remote] = Tunnel(remote)
    found.open()
    return found
