"""A control group of its own for the server, from systemd: there it may keep its containers to their limits.

Where a command runs (a terminal's session, somebody's script) the control groups are systemd's; what it delegates is a
scope, asked for with `systemd-run`, which becomes the command it is given and so keeps its pid and its descriptors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROBE_SECONDS = 5.0
"""For `systemd-run` to answer: 20 ms; longer only when systemd itself hangs."""


def scope_prefix(mounted: Path = Path("/sys/fs/cgroup"), booted: Path = Path("/run/systemd/system")) -> list[str]:
    """What to put before the server's command so that it starts in a delegated scope; [] where that cannot be had.

    Only with version 2 control groups: of version 1, a root server makes its own, and nobody else can have any. It is
    tried with a command that does nothing, since a server that fails to start must fail for reasons of its own.

    Arguments:
        mounted, booted: where the kernel's control groups and systemd's sign of life are looked for.
    """
    program = shutil.which("systemd-run")
    if program is None or not booted.is_dir() or not (mounted / "cgroup.controllers").exists():
        return []
    prefix = [program, "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--description=zygo server"]
    if os.geteuid() != 0:
        if not (Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "systemd" / "private").exists():
            return []  # no manager of this user: logged in through su, or a service
        prefix.insert(1, "--user")
    try:
        done = subprocess.run(
            [*prefix, "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return prefix if done.returncode == 0 else []
