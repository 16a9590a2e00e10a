"""The sandbox of an image: what it shows, as arguments for bubblewrap. Pure, but for the look at the host it is given.

Below it the guest makes smaller ones (guest/isolate.py): of a revision, and of a container.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.paths import CONTAINER_DOOR
from zygo.runtime import launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SANDBOX_UID = 1879048192
"""Kernel uid and gid of sandboxed code when the server is root: the first id above those that systemd's UIDS-GIDS
document gives to containers and users (1879048191), and hence not that of any account."""

STAGE = "/mnt"
"""Where root's launcher binds what the sandbox's uid could not reach; in a mount namespace of its own."""

DOOR = str(Path(CONTAINER_DOOR).parent)
"""Where a sandbox shows the directory of the socket for calls."""

_ETC_FROM_HOST = ("ssl", "alternatives", "ca-certificates", "pki", "ld.so.conf.d", "fonts")
_ETC_FILES = (
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "mime.types",
    "services",
    "protocols",
    "ca-certificates.conf",
)


@dataclass(frozen=True)
class SandboxPlan:
    """What one image's sandbox shows.

    Attributes:
        binds: host directories shown read-only at the same path (interpreter, image, runtime layer, guest package).
        etc: host directory shown as /etc.
        revisions: host directory with every revision's files, shown where only the fork servers look.
        environment: the whole environment of its first process.
        share_network: the host's network; otherwise none here, and one of its own for each revision.
        hostname: its uts name.
        door: host directory with the socket through which containers call functions, shown as DOOR; None for none.
    """

    binds: tuple[Path, ...]
    etc: Path
    revisions: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    share_network: bool = False
    hostname: str = "zygo"
    door: Path | None = None


def bubblewrap_command(plan: SandboxPlan, bwrap: str, command: Sequence[str], *, as_root: bool) -> list[str]:
    """The argument list that runs `command` in the sandbox, through the launcher when the server is root."""
    sources = [str(path) for path in (*plan.binds, plan.etc, plan.revisions)]
    if plan.door is not None:
        sources.append(str(plan.door))
    shown = [f"{STAGE}/{i}" for i in range(len(sources))] if as_root else sources
    etc, revisions = shown[len(plan.binds) : len(plan.binds) + 2]
    args = [
        bwrap,
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    if not plan.share_network:
        args.append("--unshare-net")
    # CAP_SYS_ADMIN and its like are capabilities in the sandbox's own user namespace; the fork servers need them to make
    # namespaces, and each container drops them before it runs a byte of user code.
    args += ["--uid", "0", "--gid", "0", "--cap-add", "ALL", "--die-with-parent", "--new-session"]
    args += ["--hostname", plan.hostname, "--clearenv"]
    for name, value in plan.environment.items():
        args += ["--setenv", name, value]
    args += _system_directories()
    args += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/root", "--dir", "/run"]
    args += ["--dir", "/var", "--symlink", "../tmp", "/var/tmp", "--dir", "/.zygo/newroot"]
    args += ["--ro-bind", etc, "/etc"]
    for name in _ETC_FROM_HOST:
        if (plan.etc / name).is_dir():
            args += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for path, source in zip(plan.binds, shown, strict=False):
        args += ["--ro-bind", source, str(path)]
    if plan.door is not None:
        args += ["--ro-bind", shown[-1], DOOR]
    args += ["--ro-bind", revisions, "/.zygo/revisions", "--chdir", "/", "--", *command]
    return root_launcher(sources, args) if as_root else args


def root_launcher(sources: Sequence[str], command: Sequence[str]) -> list[str]:
    """`command` under SANDBOX_UID, with `sources` bound below STAGE first."""
    options = {"uid": SANDBOX_UID, "gid": SANDBOX_UID, "sources": list(sources), "stage": STAGE}
    return [sys.executable, "-I", "-S", launch.__file__, json.dumps(options), *command]


def _system_directories() -> list[str]:
    args = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            args += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            args += ["--ro-bind", path, path]
    return args


def write_etc(directory: Path, *, isolated_network: bool) -> None:
    """Make the minimal /etc that sandboxes see: one user, the host's certificates and time zone, a resolver.

    With an isolated network the resolver is slirp4netns's own (10.0.2.3, its documented default); otherwise the host's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "hosts": "127.0.0.1 localhost zygo\n::1 localhost\n",
        "hostname": "zygo\n",
        "resolv.conf": "nameserver 10.0.2.3\n" if isolated_network else _read("/etc/resolv.conf"),
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    for name in _ETC_FILES:
        source = Path("/etc", name)
        if source.is_file():
            shutil.copyfile(source, directory / name)
    for name in _ETC_FROM_HOST:
        if Path("/etc", name).is_dir():
            (directory / name).mkdir(exist_ok=True)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
