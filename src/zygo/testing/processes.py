"""Which processes belong to a server under test, and when they are gone."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Process:
    """One process of a place.

    `kind`: server, image (a sandbox and its zygote), revision, container, network, command, or other.
    """

    pid: int
    parent: int
    command: str
    kind: str


def marked(marker: str) -> list[Process]:
    """Every process but this one whose command line, environment or mounts name `marker`."""
    found = {pid: command for pid in _pids() if (command := _marks(pid, marker.encode())) is not None}
    return [process for pid, command in found.items() if (process := _describe(pid, command)) is not None]


def wait_gone(pids: Sequence[int], seconds: float = 10.0) -> bool:
    """Whether all of these processes, ours to wait for or not, end within `seconds`."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(fd)
    return True


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


def _marks(pid: int, marker: bytes) -> str | None:
    """The command line of a live process that names `marker` there, in its environment or in its mounts."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not command:  # a zombie, or the kernel's
            return None
        texts = (command, *(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "mountinfo")))
    except OSError:
        return None
    return command.replace(b"\0", b" ").decode("utf-8", "replace") if any(marker in text for text in texts) else None


def _describe(pid: int, command: str) -> Process | None:
    try:
        fields = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "\t" in line
        )
    except (OSError, ValueError):
        return None
    parent = int(fields["PPid"])
    # A sandbox is one pid namespace below the host's, a revision two, a container three.
    return Process(pid, parent, command, _kind(command, parent, len(fields.get("NSpid", "").split())))


def _kind(command: str, parent: int, depth: int) -> str:
    words = command.split(" ")
    if "zygo.server.main" in command:
        return "server"
    if "slirp4netns" in words[0]:
        return "network"
    if "guest/main.py" in command or "bwrap" in words[0]:
        if depth >= 3:
            return "revision" if depth == 3 else "container"
        return "image" if depth == 2 or "bwrap" in words[0] or _unsandboxed_depth(parent) == 0 else "revision"
    return "command" if "zygo" in command and " serve " in command else "other"


def _unsandboxed_depth(parent: int) -> int:
    """How many guest processes are above: without a sandbox only parentage tells a zygote from what it forked."""
    try:
        above = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return 1
    return 1 if b"guest/main.py" in above else 0
