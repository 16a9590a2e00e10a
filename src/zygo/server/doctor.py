"""What this machine lacks, found by trying: the checks behind `zygo doctor`."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zygo.builder.uv import find_uv
from zygo.engine import machine
from zygo.engine.images import guest_package
from zygo.errors import Error
from zygo.runtime import network
from zygo.runtime.sandbox import write_etc
from zygo.sdk.delegation import scope_prefix
from zygo.server.ports import resolves_localhost_names
from zygo.settings import Settings
from zygo.version import fingerprint

LEAST_KERNEL = (5, 11)
"""The first with overlay file systems in user namespaces (kernel newbies, Linux 5.11)."""

LEAST_FREE_BYTES = 2 * 2**30

PROBE_SECONDS = 20.0
"""For an interpreter to start and to make a control group: 100 ms; this is for a cold disk."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried. `level` is how much its absence matters: error, warning or info; `mend` is a command."""

    name: str
    ok: bool
    level: str
    detail: str
    mend: str = ""


def check(settings: Settings | None = None) -> list[Check]:
    """Every check, in the order in which a user would mend them. Leaves nothing behind."""
    settings = settings or Settings()
    sandbox = _sandbox()
    return [
        _kernel(),
        _uv(),
        sandbox,
        _network(sandbox.ok),
        _cgroups(),
        _directories(settings),
        _names(),
    ]


def _kernel() -> Check:
    release = platform.release()
    digits = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    ok = platform.system() == "Linux" and tuple(digits) >= LEAST_KERNEL
    return Check("kernel", ok, "warning", f"{platform.system()} {release}", "" if ok else "Use Linux 5.11 or later.")


def _uv() -> Check:
    try:
        return Check("uv", True, "error", str(find_uv()))
    except Error as error:
        return Check("uv", False, "error", str(error), "pip install uv")


def _sandbox() -> Check:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Check("sandbox", False, "warning", "bubblewrap is not installed", _install("bubblewrap"))
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="zygo-doctor-", dir="/var/tmp") as name:
        data = Path(name)
        data.chmod(0o711)
        guest = guest_package(data, fingerprint())
        write_etc(data / "etc" / "host", isolated_network=False)
        probe = asyncio.run(machine.probe_sandbox(data, guest, bwrap, is_root=is_root))
    if probe.ok:
        return Check("sandbox", True, "warning", "bubblewrap, and every step that a container needs")
    return Check("sandbox", False, "warning", f"{probe.step}: {probe.error}", _mend_sandbox())


def _mend_sandbox() -> str:
    """Why a kernel refuses what bubblewrap asks, and what to do; the known causes in order of how often they are met."""
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n"
            "(Ubuntu's AppArmor takes the capabilities of processes in a user namespace.)"
        )
    if _sysctl("user/max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=65536"
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "Start this container with: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined"
        )
    return "Set ZYGO_SANDBOX=off to run functions as ordinary processes, if that is acceptable here."


def _network(sandboxed: bool) -> Check:
    if network.find_slirp() is not None:
        return Check("network", True, "warning", "slirp4netns: each revision has a network of its own")
    if shutil.which("slirp4netns") is None:
        return Check("network", False, "warning", "slirp4netns is not installed", _install("slirp4netns"))
    mend = "sudo chmod 666 /dev/net/tun" if Path("/dev/net/tun").exists() else "sudo modprobe tun"
    return Check(
        "network", not sandboxed, "warning", "/dev/net/tun is closed to this user: the host's network is shared", mend
    )


def _cgroups() -> Check:
    """Tried in a process of its own, started as a server would be: where it stands decides what it may do."""
    command = [*scope_prefix(), sys.executable, "-m", "zygo.runtime.cgroup", f"doctor-{os.getpid()}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        found = {"ok": False, "detail": f"the attempt failed: {error}", "mend": ""}
    if not found["ok"]:
        fallback = "memory limits are kept by resource limits and a watchdog, cpu limits not at all"
        return Check("control groups", False, "warning", f"{found['detail']}: {fallback}", found["mend"])
    if "cpu" in found["controllers"]:
        return Check("control groups", True, "warning", found["detail"])
    return Check(
        "control groups",
        False,
        "info",
        f"{found['detail']}: cpu limits are not kept, since that controller is not delegated to this user",
        "sudo mkdir -p /etc/systemd/system/user@.service.d && "
        "printf '[Service]\\nDelegate=cpu memory pids\\n' | "
        "sudo tee /etc/systemd/system/user@.service.d/zygo.conf && sudo systemctl daemon-reload\n"
        "(It holds from the next login on.)",
    )


def _directories(settings: Settings) -> Check:
    directory = settings.data_dir
    while not directory.exists():
        directory = directory.parent
    if not os.access(directory, os.W_OK):
        return Check("data directory", False, "error", f"{settings.data_dir} cannot be written", "Set ZYGO_DATA_DIR.")
    free = shutil.disk_usage(directory).free
    ok = free >= LEAST_FREE_BYTES
    detail = f"{settings.data_dir}, {free / 2**30:.1f} GiB free"
    return Check("data directory", ok, "warning", detail, "" if ok else "Free some space, or set ZYGO_DATA_DIR.")


def _names() -> Check:
    if resolves_localhost_names():
        return Check("hostnames", True, "info", "*.localhost resolves")
    return Check(
        "hostnames",
        True,
        "info",
        "*.localhost does not resolve in the C library (browsers and curl manage): URLs use a port for each function",
    )


def _install(package: str) -> str:
    prefix = "" if os.geteuid() == 0 else "sudo "
    return f"{prefix}apt-get install {package}" if shutil.which("apt-get") else f"Install {package}."


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
