"""`zygo server install` and `uninstall`: the server as a systemd service, so that it is there again after a reboot."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zygo import errors
from zygo.cli import account
from zygo.cli.unit import NAME, Unit, is_temporary
from zygo.program.place import place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.cli.output import Output

PASSED_ON = (
    *("UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL", "UV_PYTHON_INSTALL_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"),
)
"""Variables besides the settings without which images could not be built as they are now."""

OF_A_USER = ("UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR")
"""Those that name a directory of whoever installs: a service with a user of its own has its own in its data."""

COMMAND_SECONDS = 120.0
"""For one systemctl: starting waits until the server is ready, at most 90 s by systemd's own limit."""


@dataclass(frozen=True)
class Service:
    """Where a unit belongs, and how its manager is reached."""

    user: bool
    units: Path
    secrets_file: Path
    running: bool
    """Whether there is a manager to tell."""

    @staticmethod
    def of_machine() -> Service:
        """The system's for root, else that of the user."""
        if os.geteuid() == 0:
            running = Path("/run/systemd/system").is_dir()
            return Service(False, Path("/etc/systemd/system"), Path("/etc/zygo/zygo.env"), running)
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
        running = (runtime / "systemd" / "private").exists()
        return Service(True, config / "systemd" / "user", config / "zygo" / "zygo.env", running)

    @property
    def path(self) -> Path:
        return self.units / NAME

    def command(self, *arguments: str) -> list[str]:
        """`systemctl` with `arguments`, for this manager."""
        return ["systemctl", *(["--user"] if self.user else []), *arguments]


def account_of(service: Service, wanted: str | None) -> str:
    """The system user that the service is to run as: `wanted`, else one of its own; "" for root, and for a user's own service.

    Raises InvalidError.
    """
    if service.user:
        if wanted is not None:
            raise errors.InvalidError(
                f"--user {wanted} is for the machine's service, which root installs. Yours runs as you."
            )
        return ""
    name = account.NAME if wanted is None else wanted
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", name):
        raise errors.InvalidError(f"{name!r} is not the name of a user.")
    return "" if name == "root" else name


def unit_of(
    service: Service, environment: Mapping[str, str], fixed: Mapping[str, str] | None = None, user: str = ""
) -> Unit:
    """The unit that runs a server with the settings of this command; those in `fixed` win. `user`: see account_of."""
    from zygo.settings import Settings

    place()  # refuses bad settings by name
    settings = Settings()
    found: dict[str, str] = {}
    for name in Settings.fields:
        variable = f"ZYGO_{name.upper()}"
        if name in settings.given:
            value = getattr(settings, name)
            found[variable] = os.path.abspath(value) if isinstance(value, Path) else str(value)
    if service.user and environment.get("XDG_DATA_HOME"):  # which the user's manager may not know
        found.setdefault("ZYGO_DATA_DIR", str(settings.data_dir))
    if user:
        found.setdefault("ZYGO_DATA_DIR", str(account.DATA))
        found.setdefault("ZYGO_RUNTIME_DIR", str(account.RUNTIME))
    passed = [name for name in PASSED_ON if not user or name not in OF_A_USER]
    found.update({name: environment[name] for name in passed if environment.get(name)})
    found.update(fixed or {})
    command = (os.path.abspath(sys.executable), "-P", "-m", "zygo.server.main", "--foreground")
    return Unit(command, service.user, found, service.secrets_file, settings.grace_period, user)


def refuse(unit: Unit, again: str) -> None:
    """Raises ExecutionError when the unit's user could not run it. `again` is the command to repeat then."""
    if unit.account:
        account.refuse(account.Account.of(unit.account), unit.environment, again)


def install(service: Service, unit: Unit, out: Output, *, start: bool) -> int:
    """Write `unit`, enable it, and with `start` start it. Exit status."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    if is_temporary(Path(sys.prefix), cache=cache, temporary=Path(tempfile.gettempdir())):
        out.warning(
            f"This zygo is in {sys.prefix}, which may be removed at any time, and the service with it. Install it for good "
            "(uv tool install zygo), then run this again."
        )
    if unit.account:
        own = account.Account.of(unit.account)
        data = Path(unit.environment["ZYGO_DATA_DIR"])
        account.create(own, data)
        if own.uid < 0:
            out.line(f"Made the user {unit.account}, who owns {data}.")
    if unit.secrets:
        write(service.secrets_file, unit.secrets_text(), 0o600)
        out.line(f"Wrote {service.secrets_file}, which only its owner can read: {', '.join(unit.secrets)}.")
    write(service.path, unit.text(), 0o644)
    out.success(f"Wrote {service.path}.")
    commands = [service.command("daemon-reload"), service.command("enable", NAME)]
    commands += [service.command("restart", NAME)] if start else []
    code = run(service, commands, out)
    if service.user:
        out.hint(f"It runs while you are logged in; to have it always: loginctl enable-linger {_user()}")
    if not start and code == 0:
        out.hint(f"Start it with: {shlex.join(service.command('start', NAME))}")
    return code


def uninstall(service: Service, out: Output) -> int:
    """Stop the service and remove its files. Exit status; done also when there is none."""
    if not service.path.exists():
        out.line(f"There is no {service.path}.")
        return 0
    code = run(service, [service.command("disable", "--now", NAME)], out)
    left = _left(service.path.read_text("utf-8", "replace"))
    try:
        for path in (service.path, service.secrets_file):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise errors.ExecutionError(f"{error.filename} cannot be removed: {error.strerror}.") from None
    out.success(f"Removed {service.path}.")
    if left:
        out.hint(left)
    return run(service, [service.command("daemon-reload")], out) if service.running else code


def _left(text: str) -> str:
    """What stays when a unit with this text is removed."""
    user = re.search(r"^User=(.*)$", text, re.MULTILINE)
    data = re.search(r'^Environment="?ZYGO_DATA_DIR=(.*?)"?$', text, re.MULTILINE)
    if user is None or data is None:
        return ""
    return (
        f"The user {user[1]} and {data[1]}, with images, apps and logs, stay. To remove them: "
        f"sudo rm -r {shlex.quote(data[1])}; sudo userdel {user[1]}"
    )


def run(service: Service, commands: list[list[str]], out: Output, *, log_of: str = NAME) -> int:
    """Run the commands, up to the first that fails; those that were not run are shown. `log_of`: the unit that they are for."""
    if not service.running:
        whose = "the systemd of this user" if service.user else "systemd"
        out.warning(f"{whose} does not run here, so nothing was told to it. Where it does:")
        for command in commands:
            out.line(f"  {shlex.join(command)}")
        return 0
    for number, command in enumerate(commands):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
            reason = done.stderr.strip() if done.returncode else ""
            failed = done.returncode != 0
        except (OSError, subprocess.TimeoutExpired) as error:
            reason, failed = str(error), True
        if failed:
            log = shlex.join(["journalctl", *(["--user"] if service.user else []), "-u", log_of, "-n", "50"])
            out.error(f"{shlex.join(command)} failed.", f"{reason}\nThe service's log: {log}".lstrip())
            for left in commands[number + 1 :]:
                out.line(f"Not done: {shlex.join(left)}")
            return 1
    return 0


def write(path: Path, text: str, mode: int) -> None:
    """Replace `path` in one step, never readable for more than `mode` says. Raises ExecutionError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        os.replace(new, path)
    except OSError as error:
        raise errors.ExecutionError(
            f"{path} cannot be written: {error.strerror}. `--print` only shows the unit."
        ) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.geteuid())
