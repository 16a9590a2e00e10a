"""The text of the systemd unit that runs the server, and of the file with its secrets. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from zygo.errors import InvalidError

NAME = "zygo.service"

_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY\b")

_SECRET_PART = re.compile(r"[?&][^=&]*(?:password|secret|token)[^=&]*=", re.IGNORECASE)

_SYSTEM = """\
Wants=network-online.target
After=network-online.target
"""

_TEXT = """\
# Written by `zygo server install`, which replaces it; `zygo server uninstall` removes it.
[Unit]
Description=zygo server
{order}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
{account}ExecStart={command}
{environment}# A server that was killed is back within a second; one whose database is away is tried again for ever.
Restart=always
RestartSec=500ms
# The server ends its containers itself, so that requests in flight are answered; what is left then is killed.
KillMode=mixed
TimeoutStopSec={stop}
# Its containers get control groups of their own, below the service's.
Delegate=yes
TasksMax={tasks}
{memory}LimitNOFILE=262144

[Install]
WantedBy={target}
"""


_ACCOUNT = """\
User={name}
{runtime}"""

_LOW_PORTS = """\
# For a port below 1024. The server gives it up for what it starts.
AmbientCapabilities=CAP_NET_BIND_SERVICE
"""

_MEMORY = """\
# Functions that together want more than there is end each other, and not the machine's other services.
MemoryMax=90%
"""

_PORTS = ("ZYGO_PORT", "ZYGO_TLS_PORT", "ZYGO_CONTROL_PORT")


@dataclass(frozen=True)
class Unit:
    """What the unit is made from.

    Arguments:
        command: absolute path of the interpreter, and its arguments.
        user: a unit of one user's own manager; else one of the system's.
        environment: the variables that the server needs.
        secrets_file: where those of them go that hold secrets.
        grace: seconds that requests in flight have when the server stops.
        account: the system user that a unit of the system's runs as; "" for root.
    """

    command: tuple[str, ...]
    user: bool
    environment: dict[str, str] = field(default_factory=dict)
    secrets_file: Path = Path("/etc/zygo/zygo.env")
    grace: float = 30.0
    account: str = ""

    @property
    def secrets(self) -> dict[str, str]:
        """The variables that nobody but the owner may read."""
        return {name: value for name, value in self.environment.items() if is_secret(name, value)}

    def text(self) -> str:
        """The unit file. Raises InvalidError for a value that none can hold."""
        plain = {name: value for name, value in self.environment.items() if name not in self.secrets}
        lines = [f"Environment={_quoted(f'{name}={_one_line(name, value)}')}\n" for name, value in plain.items()]
        if self.secrets:
            lines.append(f"EnvironmentFile={_specifiers(str(self.secrets_file))}\n")
        program, *arguments = self.command
        if re.search(r"[\"'\\\x00-\x1f]", program):
            raise InvalidError(f"systemd runs no program whose path has a quote or a backslash: {program!r}. Move it.")
        words = [_quoted(program), *(_quoted(word).replace("$", "$$") for word in arguments)]
        return _TEXT.format(
            order="" if self.user else _SYSTEM,
            # systemd puts variables into the arguments and not into the program's path.
            command=" ".join(words),
            account=self._account(),
            tasks="80%" if self.account else "infinity",
            memory=_MEMORY if self.account else "",
            environment="".join(lines),
            stop=round(self.grace + 15),
            target="default.target" if self.user else "multi-user.target",
        )

    def _account(self) -> str:
        if not self.account:
            return ""
        runtime = Path(self.environment.get("ZYGO_RUNTIME_DIR", ""))
        made = ""
        if runtime.is_relative_to("/run"):
            name = _quoted(str(runtime.relative_to("/run")))
            made = f"RuntimeDirectory={name}\nRuntimeDirectoryMode=0700\n"
        # 0 is any free one.
        low = any(0 < int(self.environment.get(name) or 0) < 1024 for name in _PORTS)
        return _ACCOUNT.format(name=self.account, runtime=made) + (_LOW_PORTS if low else "")

    def secrets_text(self) -> str:
        """The file of `secrets`, to be readable by its owner alone."""
        lines = []
        for name, value in self.secrets.items():
            escaped = re.sub(r'(["\\$`])', r"\\\1", _one_line(name, value))
            lines.append(f'{name}="{escaped}"\n')
        return "".join(lines)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is one that others must not read: a URL with a password, or one named so."""
    if _SECRET_NAME.search(name) or _SECRET_PART.search(value):
        return True
    try:
        return urlsplit(value).password is not None
    except ValueError:
        return "@" in value


def is_temporary(prefix: Path, *, cache: Path, temporary: Path) -> bool:
    """Whether the Python environment `prefix` may vanish: it is in uv's cache or among temporary files."""
    return "archive-v0" in prefix.parts or any(
        prefix.is_relative_to(folder) for folder in (cache, temporary, Path("/tmp"), Path("/var/tmp"))
    )


def _one_line(name: str, value: str) -> str:
    if "\n" in value or "\0" in value:
        raise InvalidError(f"{name} has a line break, which a systemd unit cannot hold.")
    return value


def _quoted(word: str) -> str:
    escaped = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if re.fullmatch(r"[\w./:=+@%-]+", escaped) else f'"{escaped}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
