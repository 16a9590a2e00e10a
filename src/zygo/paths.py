"""Where a server's data and sockets are, unless a setting says otherwise.

Apart from `settings`, which describes these with all the others: a command, or a program that calls a function, needs no more
than these.
"""

from __future__ import annotations

import os
from pathlib import Path

CALLS_SOCKET = "calls.sock"
"""The socket for calls of functions, in the runtime directory; open to its owner alone."""

CONTAINER_DOOR = f"/.zygo/server/{CALLS_SOCKET}"
"""The same in a sandbox, through a socket of its own."""


def default_data_dir() -> Path:
    """Images, sources, logs, the database: `$XDG_DATA_HOME/zygo`, as root `/var/lib/zygo`."""
    # As root the sandboxes run under unprivileged uids, which must be able to traverse it: not root's home.
    if os.geteuid() == 0:
        return Path("/var/lib/zygo")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "zygo"


def service_user(data_dir: Path) -> int:
    """The uid of the service that uses `data_dir`, when it has a user of its own and this is root; otherwise 0."""
    if os.geteuid() != 0:
        return 0
    try:
        owner, lock = data_dir.stat().st_uid, (data_dir / "server.lock").stat().st_uid
    except OSError:
        return 0
    return owner if owner == lock else 0


def refusal_of_data(data_dir: Path) -> str:
    """Why root starts no server on the data of a service, which could not read what root wrote there; "" when it may."""
    user = service_user(data_dir)
    return (
        f"{data_dir} belongs to the server of another user (uid {user}): of the service that `zygo server install` made, "
        "which is used when it runs. Start it with: systemctl start zygo"
        if user
        else ""
    )


def default_runtime_dir() -> Path:
    """Sockets: `$XDG_RUNTIME_DIR/zygo`, without one a directory of the user's own in `/tmp`, as root `/run/zygo`."""
    if os.geteuid() == 0:
        return Path("/run/zygo")
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base) / "zygo"
    return Path(f"/tmp/zygo-{os.geteuid()}")


def control_socket(runtime_dir: Path) -> Path:
    """The control API's unix socket."""
    return runtime_dir / "control.sock"


def calls_socket() -> str:
    """Where this process's calls go: to the socket in ZYGO_RUNTIME_DIR, or in the default directory."""
    return os.path.join(os.environ.get("ZYGO_RUNTIME_DIR") or default_runtime_dir(), CALLS_SOCKET)
