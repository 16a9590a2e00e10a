"""Runs uv as a child process: its output by line, a deadline, and no process left when the caller goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NOT_INHERITED = frozenset(
    [
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONPATH",
        "PYTHONHOME",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_LINK_MODE",
        "UV_PROJECT_ENVIRONMENT",
        "UV_TARGET",
        "UV_PREFIX",
        "UV_WORKING_DIR",
        "UV_PROJECT",
        "UV_COMPILE_BYTECODE",
    ]
)
"""Variables that would send uv to another environment than the one being built, or change how files get there."""

_NETWORK = re.compile(
    r"error sending request|dns error|failed to lookup address|client error \(connect\)|connection refused"
    r"|operation timed out|network is unreachable|could not connect|failed to fetch|request failed after",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status (None: the time was up) and what it printed, both streams, by line."""

    code: int | None
    lines: tuple[str, ...]

    @property
    def network_failed(self) -> bool:
        """It failed, and says that an index or a file could not be reached."""
        return self.code != 0 and any(_NETWORK.search(line) for line in self.lines)


def find_uv() -> Path:
    """The uv program: the one installed beside zygo, else the first on the path. Raises NotFoundError."""
    import uv

    with contextlib.suppress(FileNotFoundError):
        return Path(uv.find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise NotFoundError("uv, which builds the images, is not installed. Install it: pip install uv")
    return Path(found)


class Uv:
    """The uv program with its cache. Holds nothing between runs."""

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        self.cache = cache

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What uv starts with: ours, less what would mislead it; then `extra`, which the image's env steps set."""
        env = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        env.update((key, value) for key, value in extra.items() if key not in _NOT_INHERITED)
        env.setdefault("UV_CACHE_DIR", str(self.cache))
        return env

    async def run(
        self,
        arguments: Sequence[str],
        emit: Callable[[str], None],
        *,
        cwd: Path,
        limit: float,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Runs `uv ARGUMENTS` in `cwd` for at most `limit` seconds and hands each line it prints to `emit`.

        When the caller is cancelled or the time is up, the whole process group is killed before this returns.
        """
        command = [str(self.path), "--color", "never", "--no-progress", *arguments]

        def told(line: str) -> None:
            if not line.startswith("Using Python "):  # the staging folder, which nobody should learn of
                emit(line)

        return await run(command, told, cwd=cwd, limit=limit, env=self.environment(env or {}))


async def run(
    command: Sequence[str],
    emit: Callable[[str], None],
    *,
    cwd: Path,
    limit: float,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Runs `command` as `Uv.run` does. Files that it makes can be read by everybody."""
    process = await _start(command, cwd, env)
    assert process.stdout is not None
    lines: list[str] = []
    reader = asyncio.create_task(_read(process.stdout, lines, emit), name=f"output of {command[0]}")
    code: int | None = None
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                code = await process.wait()
    finally:
        # Also after a normal end: what uv started (a build backend) may have outlived it and hold the pipe open.
        _kill_group(process.pid)
        await _to_the_end(process, reader)
    return Outcome(code, tuple(lines))


async def _start(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *_wrapped(command),
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # uvloop would forget a child that was forked already and is cancelled before it is announced.
        await asyncio.wait({starting})
        if starting.exception() is None:
            _kill_group(starting.result().pid)
            await starting.result().communicate()
        raise


def _wrapped(command: Sequence[str]) -> list[str]:
    """`command` with umask 022 (root's containers run under another uid), killed by the kernel should the server be.

    A shell does it, since uvloop knows neither `umask=` nor `preexec_fn` that would be safe here.
    """
    setpriv = shutil.which("setpriv")
    death = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return [*death, "/bin/sh", "-c", 'umask 022; exec "$@"', "sh", *command]


async def _read(stream: asyncio.StreamReader, lines: list[str], emit: Callable[[str], None]) -> None:
    # By chunks: readline() raises on a line longer than its limit, and a compiler can print one.
    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for raw in whole:
            _take(raw, lines, emit)
    if rest:
        _take(rest, lines, emit)


def _take(raw: bytes, lines: list[str], emit: Callable[[str], None]) -> None:
    line = raw.decode(errors="replace").rstrip()
    if line:
        lines.append(line)
        emit(line)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _to_the_end(process: asyncio.subprocess.Process, reader: asyncio.Task[None]) -> None:
    """Waits, through cancellations too, until the killed process is reaped and its output read; then lets them out."""
    ending = asyncio.ensure_future(asyncio.gather(process.wait(), reader, return_exceptions=True))
    cancelled = False
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    if not reader.cancelled() and (error := reader.exception()):
        raise error
