"""Every setting, once: name, type, default and what it is for. The environment variable is ZYGO_ and the name.

Sources, first wins: keyword arguments, the environment, the defaults below. There are few on purpose. `docs/reference/
settings.md` is checked against this file by a test. Host side only.

Read by hand: a library for it takes 0.1 s to import, before anything else of a server can begin.
"""

from __future__ import annotations

import ipaddress
import os
import re
import types
from collections.abc import Callable, Mapping  # noqa: TC003 - evaluated at the end
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

from zygo.errors import InvalidError
from zygo.paths import CALLS_SOCKET, control_socket, default_data_dir, default_runtime_dir

PREFIX = "ZYGO_"

_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("0", "false", "no", "off", "f", "n"), False),
}


class Setting(NamedTuple):
    """What is known of one setting.

    `default` may be a function that gives it. A number is at least `ge`, at most `le` and more than `gt`. `check` returns the
    text to use, or raises ValueError. A `secret` one is in no repr.
    """

    default: Any
    description: str
    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    check: Callable[[str], str] | None = None
    secret: bool = False

    def read(self, kind: Any, value: Any) -> Any:
        """`value`, as text or of its kind already, as users of the setting get it. Raises ValueError."""
        value = _converted(kind, value)
        if self.ge is not None and value < self.ge:
            raise ValueError(f"{value:g} is below {self.ge:g}")
        if self.le is not None and value > self.le:
            raise ValueError(f"{value:g} is above {self.le:g}")
        if self.gt is not None and value <= self.gt:
            raise ValueError(f"{value:g} is not above {self.gt:g}")
        return self.check(value) if self.check is not None else value


def Field(**known: Any) -> Any:
    """A Setting, typed so that it can stand for its value."""
    return Setting(**known)


def _converted(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{value!r} is none of {', '.join(get_args(kind))}")
        return value
    if kind is bool and isinstance(value, str):
        if value.strip().lower() not in _WORDS:
            raise ValueError(f"{value!r} is neither true nor false")
        return _WORDS[value.strip().lower()]
    if kind in (int, float) and isinstance(value, str):
        try:
            value = int(value) if kind is int else float(value.strip().removesuffix("s"))  # those are all seconds
        except ValueError:
            raise ValueError(f"{value!r} is not a {'whole number' if kind is int else 'number'}") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{value} is not a number to count with")
        return value
    return Path(value) if kind is Path else value


def files_of(value: str) -> list[Path]:
    """The files of a setting that names several, separated by commas."""
    return [Path(os.path.abspath(part.strip())) for part in value.split(",") if part.strip()]


def _networks(value: str) -> str:
    for part in split(value):
        ipaddress.ip_network(part, strict=False)  # a ValueError names the part
    return value


def split(value: str) -> list[str]:
    """The parts of a setting that has several, separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _files(value: str) -> str:
    return ",".join(map(str, files_of(value)))  # absolute from the beginning: a server has no working directory


def _workspace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,30}", value):
        raise ValueError(f"{value!r} is not 1 to 30 small letters, digits and dashes")
    return value


class Settings:
    """The settings of one command or server.

    Arguments:
        given: values that win over the environment, by name.

    Raises InvalidError that names every setting with a value that cannot be.

    Attributes:
        given: the names of those that are not at their default, in the order of this file.
    """

    data_dir: Path = Field(
        default=default_data_dir,
        description="Images, sources, logs and what is remembered. One server at a time uses it.",
    )
    runtime_dir: Path = Field(
        default=default_runtime_dir,
        description="Sockets and the server's lock. Keep it short: a unix socket's path has at most 107 bytes.",
    )
    database_url: str = Field(
        default="",
        secret=True,  # it may hold a password
        description="PostgreSQL database for what is remembered, `postgresql://user:password@host/name`; "
        "empty: SQLite in the data directory.",
    )
    host: str = Field(default="127.0.0.1", description="Address on which the gateway listens.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port of the gateway; when taken, the next free one is used and said."
    )
    control_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port on which the control API listens for commands of other machines, which need a token; 0: none.",
    )
    control_host: str = Field(
        default="127.0.0.1", description="Address of that port; without TLS it is a loopback one."
    )
    control_cert: str = Field(
        default="", description="File with the certificate, and those between it and its CA, for TLS on that port."
    )
    control_key: str = Field(default="", description="File with the certificate's key.")
    tls_cert: str = Field(
        default="",
        check=_files,
        description="PEM file of a certificate and its chain; then the gateway speaks TLS too. Several, separated by commas, "
        "are chosen by the name asked for. Taken anew when they change.",
    )
    tls_key: str = Field(
        default="",
        check=_files,
        description="PEM file of its private key, several in the same order; empty: in the certificate's file.",
    )
    tls_port: int = Field(default=8443, ge=0, le=65535, description="Port for TLS; 0: any free one.")
    tls_redirect: bool = Field(
        default=False, description="Send requests at `ZYGO_PORT` to TLS; their names need a certificate."
    )
    trusted_proxies: str = Field(
        default="",
        check=_networks,
        description="Addresses or networks of proxies in front, separated by commas, whose X-Forwarded headers are believed.",
    )
    proxy_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port at which a proxy in front speaks HTTPS for this gateway; URLs are printed with it. 0: there is none.",
    )
    ask_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Loopback port that tells a proxy in front for which names it may get certificates; 0: none.",
    )
    share_ssh: str = Field(
        default="",
        description="What `zygo serve --share` passes to `ssh` to open a tunnel, such as `user@host` or `-p 2222 user@host`.",
    )
    domain: str = Field(default="localhost", description="Domain under which every web function has its hostname.")
    workspace: str = Field(default="local", description="First part of every hostname.", check=_workspace)
    sandbox: Literal["auto", "require", "off"] = Field(
        default="auto",
        description="`auto`: bubblewrap, or a loud warning without it; `require`: refuse to run without; `off`: none.",
    )
    network: Literal["isolated", "host"] = Field(
        default="isolated",
        description="`isolated`: a network namespace per revision with slirp4netns; `host`: the host's network.",
    )
    max_containers: int = Field(
        default=0, ge=0, description="Containers on this machine at once; 0: derived from its cores and memory."
    )
    spares: int = Field(
        default=16,
        ge=0,
        description="Containers that wait parked over all functions, 4 MB each, so that a cold start is a hand-over; 0: none.",
    )
    max_waiting: int = Field(
        default=2000, ge=1, description="Requests that may wait for one function; the next one is refused with 503."
    )
    max_spawned: int = Field(
        default=1_000_000,
        ge=1,
        description="Spawned inputs of one function that may have no result yet; more are refused with ResourceExhaustedError.",
    )
    max_body_bytes: int = Field(default=4 * 2**30, ge=0, description="Largest request body, in bytes.")
    web_response_wait: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after which a request without an answer is sent to the same URL with an id, by 303, to wait on "
        "there: for load balancers that cut idle connections. `150s` is Modal's; 0: never.",
    )
    websocket_timeout: Literal["silence", "connection"] = Field(
        default="silence",
        description="What a function's `timeout` bounds on a WebSocket: `silence` of both sides; "
        "or `connection`, all of it, as Modal does.",
    )
    idle_exit: float = Field(
        default=600.0,
        ge=0,
        description="Seconds after which a server that was started on demand and has no app ends; 0: never.",
    )
    grace_period: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that in-flight requests have to finish when their container is stopped.",
    )
    keep_revisions: int = Field(
        default=20, ge=1, description="Revisions of a deployed app that are kept, so that one can go back to them."
    )
    build_timeout: float = Field(default=1800.0, gt=0, description="Seconds that one step of an image may take.")
    log_bytes: int = Field(default=16 * 2**20, ge=4096, description="Size of an app's log file before it is rotated.")

    fields: ClassVar[Mapping[str, Setting]]

    def __init__(self, **given: Any) -> None:
        if strange := given.keys() - self.fields.keys():
            raise TypeError(f"Settings has no {', '.join(sorted(strange))}")
        # Upper or lower case: ZYGO_port is the same variable to a user who has set it.
        environment = {name.upper(): value for name, value in os.environ.items() if name[:5].upper() == PREFIX}
        problems, found = [], []
        for name, setting in self.fields.items():
            value = given.get(name, environment.get(f"{PREFIX}{name.upper()}"))
            if value is None:
                value = setting.default() if callable(setting.default) else setting.default
            else:
                found.append(name)
            try:
                setattr(self, name, setting.read(_KINDS[name], value))
            except ValueError as error:
                problems.append(f"{PREFIX}{name.upper()}: {error}")
        if problems:
            raise InvalidError(f"A setting is not valid. {'; '.join(problems)}.")
        self.given = tuple(found)

    def replace(self, **given: Any) -> Settings:
        """The same with other values for some."""
        return Settings(**{**{name: getattr(self, name) for name in self.fields}, **given})

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name, setting in self.fields.items() if not setting.secret]
        return f"Settings({', '.join(shown)})"

    @property
    def control_socket(self) -> Path:
        """The control API's unix socket."""
        return control_socket(self.runtime_dir)

    @property
    def calls_socket(self) -> Path:
        """The socket for calls of functions, for programs of this user."""
        return self.runtime_dir / CALLS_SOCKET

    @property
    def door(self) -> Path:
        """The directory whose socket containers call functions through. Only its owner can traverse the one above it."""
        return self.runtime_dir / "doors" / "calls"


Settings.fields = types.MappingProxyType(
    {name: each for name, each in vars(Settings).items() if isinstance(each, Setting)}
)
_KINDS = get_type_hints(Settings)
