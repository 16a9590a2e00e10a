"""What this machine can do: found out once, when the server starts, by trying and not by guessing from versions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.runtime import network
from zygo.runtime.cgroup import open_cgroups
from zygo.runtime.limits import Cgroups, Refusal
from zygo.runtime.sandbox import SANDBOX_UID, SandboxPlan, bubblewrap_command, write_etc

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 15.0
MIB_PER_CONTAINER = 64
CONTAINERS_PER_CORE = 32
"""Bounds of the default cap. A container shares most of its pages with its zygote (4 to 8 MB of its own when idle); 64 MiB
leaves room for work. Thirty-two that wait for something else keep a core busy; more only make every answer later."""


@dataclass(frozen=True)
class SandboxProbe:
    """Whether containers can be sandboxed here; if not, which step was refused and with what words."""

    ok: bool
    step: str = ""
    error: str = ""


@dataclass
class Machine:
    """The facts, and the choices that follow from them.

    Attributes:
        sandboxed: containers run in bubblewrap.
        is_root: the server has kernel uid 0; sandboxed code never has.
        drop_root: without a sandbox, root's zygotes still give up uid 0 (impossible where they could not read their files).
        network: "isolated" or "host", as set and possible.
        warnings: what the user must be told, each with its mend.
        state: directory for what is remembered about images.
        door: directory with the socket through which containers call functions; None for none.
    """

    bwrap: str | None
    sandboxed: bool
    is_root: bool
    drop_root: bool
    network: str
    slirp: str | None
    cgroups: Cgroups | None
    etc: Path
    state: Path
    memory_bytes: int
    max_containers: int
    warnings: tuple[str, ...]
    door: Path | None = None

    def network_for(self, wanted: str) -> str:
        """The network a revision that wants `wanted` gets."""
        if wanted == "none" and self.sandboxed:
            return "none"
        return self.network if wanted == "isolated" else "host"

    def etc_for(self, wanted: str) -> Path:
        """The /etc for that network: they differ in the resolver."""
        return self.etc / self.network_for(wanted)


def default_max_containers(memory_bytes: int, cores: int) -> int:
    """Containers on a machine at once when nothing is set: what keeps it usable while five hundred requests arrive."""
    return max(4, min(cores * CONTAINERS_PER_CORE, memory_bytes // 2 // (MIB_PER_CONTAINER * 2**20)))


async def inspect(
    data: Path,
    guest: Path,
    *,
    sandbox: str,
    wanted_network: str,
    max_containers: int,
    name: str,
    expect: Callable[[Machine], None] = lambda machine: None,
) -> Machine:
    """Find out. `sandbox` and `wanted_network` are the settings of that name; `name` tells servers' cgroups apart.

    Trying the sandbox takes a tenth of a second. Where it worked the last time, `expect` is called before with the machine as it
    will be if it works again; only if it does is that very machine what is returned.
    """
    warnings: list[str] = []
    is_root = os.geteuid() == 0
    etc = data / "etc"
    for kind in ("isolated", "none", "host"):
        write_etc(etc / kind, isolated_network=kind == "isolated")
    bwrap = shutil.which("bwrap") if sandbox != "off" else None
    cgroups = open_cgroups(name)
    worked = _Worked(data / "zygotes" / "sandbox.worked", f"{bwrap} {platform.release()} {os.geteuid()}")
    expected = None
    if bwrap is not None and worked.before:
        expected = _machine(data, bwrap, SandboxProbe(True), wanted_network, cgroups, [], max_containers)
        expect(expected)
    probe = SandboxProbe(False, "bubblewrap", "not installed")
    if sandbox == "off":
        warnings.append(
            "The sandbox is switched off (ZYGO_SANDBOX=off): functions run as ordinary processes of this user."
        )
    else:
        if bwrap is not None:
            probe = await probe_sandbox(data, guest, bwrap, is_root=is_root)
        worked.note(probe.ok)
        if not probe.ok:
            warnings.append(_no_sandbox(probe))
    if expected is not None and probe.ok:
        return expected
    found = _machine(data, bwrap, probe, wanted_network, cgroups, warnings, max_containers)
    return replace(found, drop_root=is_root and not probe.ok and _readable_by_others(data, guest))


def _machine(
    data: Path,
    bwrap: str | None,
    probe: SandboxProbe,
    wanted_network: str,
    cgroups: Cgroups | Refusal,
    warnings: list[str],
    max_containers: int,
) -> Machine:
    """What follows from how the sandbox's trial went."""
    warnings = list(warnings)
    slirp = network.find_slirp() if probe.ok else None
    if probe.ok and wanted_network == "isolated" and slirp is None:
        warnings.append(_no_slirp())
    if isinstance(cgroups, Refusal):
        warnings.append(
            "No control groups can be made here: memory limits are kept by resource limits and a watchdog, cpu "
            "limits not at all. "
            "`zygo doctor` says what would change that."
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        bwrap=bwrap,
        sandboxed=probe.ok,
        is_root=os.geteuid() == 0,
        drop_root=False,
        network="isolated" if wanted_network == "isolated" and slirp is not None else "host",
        slirp=slirp,
        cgroups=None if isinstance(cgroups, Refusal) else cgroups,
        etc=data / "etc",
        state=data / "zygotes",
        memory_bytes=memory,
        max_containers=max_containers or default_max_containers(memory, os.cpu_count() or 1),
        warnings=tuple(warnings),
    )


class _Worked:
    """Whether the sandbox worked under these circumstances the last time: a guess for the next start, never more."""

    def __init__(self, path: Path, circumstances: str) -> None:
        self._path = path
        self._circumstances = circumstances

    @property
    def before(self) -> bool:
        try:
            return self._path.read_text() == self._circumstances
        except (OSError, ValueError):
            return False

    def note(self, ok: bool) -> None:
        """Remember how it went now."""
        with contextlib.suppress(OSError):
            if ok and not self.before:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(self._circumstances)
            elif not ok:
                self._path.unlink(missing_ok=True)


def _no_sandbox(probe: SandboxProbe) -> str:
    mend = "sudo apt install bubblewrap" if probe.step == "bubblewrap" else "zygo doctor"
    return (
        f"Functions run UNSANDBOXED, as ordinary processes of this user: {probe.step}: {probe.error}. "
        f"Mend: {mend}; or set ZYGO_SANDBOX=require to refuse instead."
    )


def _no_slirp() -> str:
    reason, mend = "/dev/net/tun is closed to this user", "sudo chmod 666 /dev/net/tun"
    if not shutil.which("slirp4netns"):
        reason, mend = "slirp4netns is not installed", "sudo apt install slirp4netns"
    return f"{reason}, so functions share the host's network, its loopback included. Mend: {mend}"


async def probe_sandbox(data: Path, guest: Path, bwrap: str, *, is_root: bool) -> SandboxProbe:
    """Run guest/probe.py in a sandbox like an image's, made the same way."""
    files = data / "revisions" / ".probe"
    (files / "root").mkdir(parents=True, exist_ok=True)
    open_to_sandbox(data / "revisions", is_root=is_root)
    python, binds = _any_python()
    plan = SandboxPlan(
        binds=(*binds, guest),
        etc=data / "etc" / "host",
        revisions=data / "revisions",
        environment={"PATH": "/usr/bin:/bin"},
    )
    probe = str(guest / "zygo" / "guest" / "probe.py")
    command = bubblewrap_command(
        plan, bwrap, [python, "-B", "-S", probe, "/.zygo/revisions/.probe", str(guest)], as_root=is_root
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PROBE_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return SandboxProbe(False, "bubblewrap", f"no answer in {PROBE_SECONDS:g} s")
    try:
        answer = json.loads(out)
        return SandboxProbe(bool(answer["ok"]), str(answer.get("step", "")), str(answer.get("error", "")))
    except (ValueError, KeyError):
        words = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        return SandboxProbe(False, "starting bubblewrap", words[0])


def _any_python() -> tuple[str, tuple[Path, ...]]:
    if os.access("/usr/bin/python3", os.X_OK):
        return "/usr/bin/python3", ()
    prefix = Path(sys.base_prefix).resolve()
    executable = os.path.realpath(sys.executable)
    return executable, (() if prefix.is_relative_to("/usr") else (prefix,))


def open_to_sandbox(directory: Path, *, is_root: bool) -> None:
    """Let the sandbox's group, and nobody else, read `directory` (its content is readable to whoever gets there)."""
    if is_root:
        os.chown(directory, 0, SANDBOX_UID)
        directory.chmod(0o750)


def _readable_by_others(*paths: Path) -> bool:
    for path in paths:
        for part in [path, *path.parents]:
            try:
                if not part.stat().st_mode & 0o001:
                    return False
            except OSError:
                return False
    return True
