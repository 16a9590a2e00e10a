"""The system user that the service of a machine runs as, made by `zygo server install`: it owns the data, and nothing else.

What stands in the way is found out before anything is changed: data of a server that ran as root, and files that the user could
not read.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zygo import errors
from zygo.settings import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "zygo"
"""Unless `--user` says another."""

DATA = Path("/var/lib/zygo")
RUNTIME = Path("/run/zygo")
"""Made by systemd each time, since /run is empty after a boot."""

COMMAND_SECONDS = 30.0


@dataclass(frozen=True)
class Account:
    """A system user; `uid` -1 when there is none of that name yet."""

    name: str
    uid: int = -1
    gid: int = -1
    groups: frozenset[int] = frozenset()

    @staticmethod
    def of(name: str) -> Account:
        """The account of that name, as it is now."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return Account(name)
        groups = {group.gr_gid for group in grp.getgrall() if name in group.gr_mem} | {entry.pw_gid}
        return Account(name, entry.pw_uid, entry.pw_gid, frozenset(groups))

    def may(self, path: Path, needed: int) -> bool:
        """Whether it may do with the file what `needed` says (4: read, 1: run or pass through), by its mode alone."""
        status = path.stat()
        if status.st_uid == self.uid:
            bits = status.st_mode >> 6
        elif status.st_gid in self.groups:
            bits = status.st_mode >> 3
        else:
            bits = status.st_mode
        return bits & needed == needed

    def reads(self, path: Path) -> Path | None:
        """None when it can read `path`; else what is closed to it on the way there. A file that is not there is no matter."""
        try:
            real = path.resolve(strict=True)
            for part in [*reversed(real.parents), real]:
                last = part == real
                needed = 5 if stat.S_ISDIR(part.stat().st_mode) and last else 4 if last else 1
                if not self.may(part, needed):
                    return part
        except FileNotFoundError:
            return None
        return None


def refuse(account: Account, environment: Mapping[str, str], again: str) -> None:
    """Raises ExecutionError with the commands to type when the service could not run as `account`; nothing was changed then.

    `environment` is the unit's, `again` the command to repeat.
    """
    data = Path(environment["ZYGO_DATA_DIR"])
    try:
        owner = data.stat().st_uid if any(data.iterdir()) else account.uid
    except FileNotFoundError:
        owner = account.uid
    if owner != account.uid:
        made = "" if account.uid >= 0 else f"    sudo {shlex.join(create_command(account.name, data))}\n"
        raise errors.ExecutionError(
            f"{data} holds what a server of {_name(owner)} left there, and the service is to run as the user {account.name}. "
            "Its apps are kept if you give it that, with the server stopped, and run this again:\n\n"
            f"    sudo systemctl stop zygo; sudo zygo server stop\n{made}"
            f"    sudo chown -R -h {account.name}: {shlex.quote(str(data))}\n    {again}\n\n"
            f"Or let the service run as {_name(owner)} as before:\n\n    {again} --user {_name(owner)}"
        )
    for path in (Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix), Path(__file__)):
        if (closed := account.reads(path)) is not None:
            raise errors.ExecutionError(
                f"This zygo is in {sys.prefix}, and {closed} is closed to the user {account.name}, as whom the service runs. "
                "Install it where every user can read, and run this again with that one:\n\n"
                "    sudo env UV_TOOL_DIR=/opt/zygo UV_TOOL_BIN_DIR=/usr/local/bin UV_PYTHON_INSTALL_DIR=/opt/zygo/python "
                f"uv tool install zygo\n    {again}\n\nOr let the service run as root:\n\n    {again} --user root"
            )
    for name in ("ZYGO_TLS_CERT", "ZYGO_TLS_KEY", "ZYGO_CONTROL_CERT", "ZYGO_CONTROL_KEY", "SSL_CERT_FILE"):
        for path in files_of(environment.get(name, "")):
            if (closed := account.reads(path)) is not None:
                raise errors.ExecutionError(
                    f"{name}={path}: {closed} is closed to the user {account.name}, as whom the service is to run. Copy it to a "
                    "place of that user's whenever it is renewed (docs/guides/public-server.md has a hook for that)."
                )


def create_command(name: str, data: Path) -> list[str]:
    """The command that makes the account."""
    home = ("--home-dir", str(data), "--no-create-home", "--shell", "/usr/sbin/nologin")
    return ["useradd", "--system", "--user-group", *home, name]


def create(account: Account, data: Path) -> Account:
    """Make the account unless there is one, and its data directory. Raises ExecutionError."""
    if account.uid < 0:
        command = create_command(account.name, data)
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            raise errors.ExecutionError(f"{shlex.join(command)} failed: {said}") from None
        account = Account.of(account.name)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lock says from now on whose server the data is for, also before that has run once.
        (data / "server.lock").touch(0o600)
        for path in (data, data / "server.lock"):
            os.chown(path, account.uid, account.gid)
    except OSError as error:
        raise errors.ExecutionError(f"{data} cannot be given to {account.name}: {error.strerror}.") from None
    return account


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
