"""Finds the server, or starts it: what stands between a command and its first request.

    connect -> status? -> same build: use it
                       -> another build, or its environment is gone: stop it, wait for its end, start ours
            -> silent: start ours
    start   -> `python -m zygo.server.main --on-demand --ready-fd N`, detached, in a scope of systemd's where there is one
               (delegation.py); its reply on N says that it listens

The reply is one line: `ready`, or an error as JSON. Two commands may start a server at the same moment: the lock lets
one live, the other command meets the winner.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from zygo import errors, paths
from zygo.sdk.client import Client
from zygo.sdk.delegation import scope_prefix
from zygo.version import fingerprint, version

if TYPE_CHECKING:
    from zygo.sdk.where import Remote

STARTUP = str(Path(__file__).resolve().parent.parent / "startup")
"""What `zygo python` puts on PYTHONPATH: Python imports its start from there."""

START_SECONDS = 60.0
"""A first start imports everything from a cold disk; measured well under 5 s, so this only catches a hang."""

LISTEN_SECONDS = 15.0
"""A server has its socket soon after it took its lock; one that is older and has none has lost it."""

STATUS_SECONDS = 10.0
"""A server whose loop does not answer a status request for this long is taken for dead."""

STOP_SECONDS = 15.0
"""What a server gets to end by itself before it is killed; it kills its own containers' stragglers sooner."""


MANAGED_SECONDS = 20.0
"""What a service manager gets to start a server again that was stopped to be replaced; ours asks systemd for half a second."""


@dataclass(frozen=True)
class Place:
    """Where a server is: its control socket and its data directory."""

    socket: Path
    data_dir: Path
    module: str = "zygo.server.main"
    """What is started there; a test may name another program that keeps the same contract."""
    remote: Remote | None = None
    """A server on another machine, which is meant instead; it is neither started by its lock nor replaced from here."""
    on_demand: bool = True
    """A server started now is one that a command needs, and ends when nobody does; False for one started by hand."""

    @property
    def log(self) -> Path:
        return self.data_dir / "logs" / "server.log"


async def connect(place: Place, *, replace: bool = True, say: Callable[[str], None] = lambda _: None) -> Client:
    """A client of a server that answers, started or replaced where needed. The caller closes it.

    `replace=False` accepts any build that answers: a session that lost its server must not push aside the one that
    another, newer command has just started. `say` gets a sentence for whatever takes time.

    Raises ConnectionError when the server does not start, VersionError when a newer one runs apps,
    PermissionDeniedError when the socket's directory is somebody else's.
    """
    if place.remote is not None:
        from zygo.sdk import distant

        return await distant.connect(place.remote)
    _refuse_strangers(place.socket.parent, place.data_dir)
    client = Client(place.socket)
    try:
        status = await probe(client)
        _check_directory(status, place)
        if status is not None and replace and (reason := outdated(status)) is not None:
            say(f"Replacing the server: {reason}.")
            await stop(client, int(status.get("pid", 0)), replaced=True)
            # A service manager starts it again, from the environment that was upgraded: a second one would be in its way.
            again = status.get("managed") and await _answers(client, MANAGED_SECONDS)
            status = await probe(client) if again else None
        if status is None:
            await _start(place, client)
    except BaseException:
        await client.aclose()
        raise
    return client


def _refuse_strangers(directory: Path, data: Path) -> None:
    """Sources and secrets go to whoever listens there, and in a directory below /tmp that may be another user."""
    try:
        owner, above = directory.stat().st_uid, directory.parent.stat()
    except OSError:
        return
    # Root uses the service, which has a user of its own; its directory was made where only root makes any.
    service = paths.service_user(data) if above.st_uid == 0 and not above.st_mode & 0o022 else 0
    if owner not in (os.geteuid(), 0, service):
        raise errors.PermissionDeniedError(
            f"{directory}, the directory of the server's socket, belongs to another user (uid {owner}). "
            "Set ZYGO_RUNTIME_DIR to one of your own."
        )


def _check_directory(status: dict[str, Any] | None, place: Place) -> None:
    theirs = str((status or {}).get("data_dir") or place.data_dir)
    if os.path.realpath(theirs) != os.path.realpath(place.data_dir):
        raise errors.ExecutionError(
            f"The server at {place.socket} uses the data directory {theirs}, this command {place.data_dir}. "
            "Set ZYGO_RUNTIME_DIR for a second server, or end that one with: zygo server stop"
        )


async def probe(client: Client) -> dict[str, Any] | None:
    """The status of the server behind `client`; None when nothing answers there."""
    try:
        return await client.status(seconds=STATUS_SECONDS)
    except (errors.ConnectionError, errors.TimeoutError):
        return None


def outdated(status: dict[str, Any]) -> str | None:
    """Why this server must be replaced, None when it is fine. VersionError when the command is the older one."""
    prefix = status.get("prefix")
    if isinstance(prefix, str) and not os.path.isdir(prefix):
        return f"its environment {prefix} is gone"
    theirs = str(status.get("version", "0"))
    if theirs != version():
        if status.get("apps") and _key(theirs) > _key(version()):
            raise errors.VersionError(
                f"This command is zygo {version()}, the running server is {theirs} and has apps. "
                "Update the command, or end the server with: zygo server stop"
            )
        return f"it is zygo {theirs}, this command is {version()}"
    if status.get("fingerprint") != fingerprint():
        return "it runs other code of the same version"
    return None


def _key(text: str) -> list[int]:
    return [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split("+")[0].split(".")]


async def stop(client: Client, pid: int, *, replaced: bool = False) -> None:
    """End the server `pid` behind `client`; returns once the process is gone, however that took.

    `replaced` says that another one follows at once, so that its sessions wait for that instead of ending.
    """
    with contextlib.suppress(errors.ConnectionError, errors.TimeoutError):
        await client.stop(replaced=replaced)
    if pid <= 1 or pid == os.getpid():
        return
    for number, seconds in ((0, STOP_SECONDS), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            if number:
                os.kill(pid, number)
        if await gone(pid, seconds):
            return
    raise errors.TimeoutError(f"the server (pid {pid}) does not end, not even after SIGKILL")


async def gone(pid: int, seconds: float) -> bool:
    """Whether the process, not ours to wait for, ends within `seconds`."""
    deadline = time.monotonic() + seconds
    if hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        else:
            try:
                return await asyncio.to_thread(_readable, fd, seconds)
            finally:
                os.close(fd)
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.05)  # no process descriptors here (macOS): there is nothing to wait on
    return False


def _readable(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


async def _start(place: Place, client: Client) -> None:
    """Start a server and wait for its reply; meet the winner when another one was faster."""
    if reason := paths.refusal_of_data(place.data_dir):
        raise errors.ConnectionError(reason)
    reply = await spawn(place)
    if reply == "ready":
        return
    error = _refusal(reply, place)
    if isinstance(error, errors.AlreadyExistsError):
        # Another command won the race, and its server may need a moment to listen; or a server lives whose socket
        # is gone, which nobody can reach any more.
        if await _answers(client, _grace(place)):
            return
        pid = _owner(place)
        if pid is not None:
            await stop(client, pid, replaced=True)
            reply = await spawn(place)
            if reply == "ready":
                return
            error = _refusal(reply, place)
    raise error


def _grace(place: Place) -> float:
    """How long the lock's owner may still need until it listens: it wrote the lock when it began."""
    if place.socket.exists():
        return START_SECONDS
    try:
        age = time.time() - (place.data_dir / "server.lock").stat().st_mtime
    except OSError:
        age = 0.0
    return max(0.5, LISTEN_SECONDS - age)


async def _answers(client: Client, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await probe(client) is not None:
            return True
        await asyncio.sleep(0.05)  # another process's start: there is nothing of ours to wait on
    return False


async def spawn(place: Place) -> str:
    """Start a detached server; its reply line, "" when it ended without one. Cancelling leaves it to itself."""
    process, ready = _detach(place, await asyncio.to_thread(scope_prefix))
    try:
        return await asyncio.wait_for(_line(ready), START_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        raise errors.TimeoutError(
            f"The server did not start within {START_SECONDS:.0f} s; its log is {place.log}."
        ) from None
    finally:
        # It outlives this command, whose end hands it over to init; if it ends sooner it must not stay a zombie.
        threading.Thread(target=process.wait, name="reap server", daemon=True).start()


def _environment() -> dict[str, str]:
    """This process's, without what `zygo python` put in for its programs."""
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != STARTUP]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**others, "PYTHONPATH": os.pathsep.join(path)} if path else others


def _detach(place: Place, prefix: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """The server's process and the pipe on which it replies. `prefix` is a command that becomes the one after it."""
    read_end, write_end = os.pipe()
    try:
        place.log.parent.mkdir(parents=True, exist_ok=True)
        command = [*prefix, sys.executable, *(["-P"] if sys.version_info >= (3, 11) else [])]
        command += ["-m", place.module, *(["--on-demand"] if place.on_demand else [])]
        command += ["--ready-fd", str(write_end)]
        with open(place.log, "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
    except OSError as error:
        os.close(read_end)
        raise errors.ConnectionError(
            f"The server's data directory {place.data_dir} cannot be used: {error.strerror}. "
            "Make it writable, or set ZYGO_DATA_DIR to another one."
        ) from error
    finally:
        os.close(write_end)
    return process, read_end


async def _line(fd: int) -> str:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    pipe = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return (await reader.readline()).decode("utf-8", "replace").strip()
    finally:
        transport.close()


def _refusal(reply: str, place: Place) -> errors.Error:
    with contextlib.suppress(ValueError):
        data = json.loads(reply)
        described = data.get("error", data) if isinstance(data, dict) else None
        if isinstance(described, dict):
            return errors.from_json(described)
    return errors.ConnectionError(f"The server did not start. The end of its log, {place.log}:\n{_tail(place.log)}")


def _tail(path: Path, lines: int = 15) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"  (unreadable: {error.strerror})"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _owner(place: Place) -> int | None:
    """The process that holds the data directory's lock, by what it wrote there; only if it is one of ours."""
    try:
        pid = int((place.data_dir / "server.lock").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    ours = b"zygo" in command or place.module.encode() in command
    return pid if ours and pid != os.getpid() else None
