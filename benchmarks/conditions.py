"""Where and when a run was made: what else would have changed its figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

BUSY = 0.25
"""Share of the machine that others may use before a run is called disturbed."""

_LOOK_SECONDS = 1.0


def describe() -> dict[str, Any]:
    """The machine, its software, its load now."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "kernel": platform.release(),
        "system": _system(),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "bubblewrap": _version("bwrap"),
        "slirp4netns": _version("slirp4netns"),
        "wrk": "yes" if shutil.which("wrk") else "no",
    }


def others() -> float:
    """The share of the machine (0 to 1) that is in use now, while nothing of ours runs."""
    return psutil.cpu_percent(interval=_LOOK_SECONDS) / 100


def sentence(facts: dict[str, Any]) -> str:
    """The same in a line."""
    return (
        f"{facts['time']}: {facts['cores']} cores ({facts['cpu']}), {facts['memory_mib']} MiB, {facts['system']}, "
        f"Linux {facts['kernel']}, Python {facts['python']}, {facts['user']} user, {facts['bubblewrap']}"
    )


def _cpu() -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _version(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        return f"no {command}"
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    return said[0].strip() if said else command
