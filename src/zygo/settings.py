"""Every setting, once: name, type, default and what it is for. The environment variable is ZYGO_ and the name.

Sources, first wins: keyword arguments, the environment, the defaults below. There are few on purpose. `docs/reference/
settings.md` is checked against this file by a test. Host side only.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from zygo.paths import CALLS_SOCKET, control_socket, default_data_dir, default_runtime_dir


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


def _seconds(value: object) -> object:
    return value.strip().removesuffix("s") if isinstance(value, str) else value


# Absolute from the beginning: a server has no working directory.
FileList = Annotated[str, AfterValidator(lambda value: ",".join(map(str, files_of(value))))]


class Settings(BaseSettings):
    """The settings of one command or server."""

    model_config = SettingsConfigDict(env_prefix="ZYGO_", extra="ignore")

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Images, sources, logs and what is remembered. One server at a time uses it.",
    )
    runtime_dir: Path = Field(
        default_factory=default_runtime_dir,
        description="Sockets and the server's lock. Keep it short: a unix socket's path has at most 107 bytes.",
    )
    database_url: str = Field(
        default="",
        repr=False,  # it may hold a password
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
    tls_cert: FileList = Field(
        default="",
        description="PEM file of a certificate and its chain; then the gateway speaks TLS too. Several, separated by commas, "
        "are chosen by the name asked for. Taken anew when they change.",
    )
    tls_key: FileList = Field(
        default="",
        description="PEM file of its private key, several in the same order; empty: in the certificate's file.",
    )
    tls_port: int = Field(default=8443, ge=0, le=65535, description="Port for TLS; 0: any free one.")
    tls_redirect: bool = Field(
        default=False, description="Send requests at `ZYGO_PORT` to TLS; their names need a certificate."
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        default="",
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
    workspace: str = Field(default="local", description="First part of every hostname.", pattern=r"^[a-z0-9-]{1,30}$")
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
    web_response_wait: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=0.0,
        ge=0,
        description="Seconds after which a request without an answer is sent to the same URL with an id, by 303, to wait on "
        "there: for load balancers that cut idle connections. `150s` is Modal's; 0: never.",
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
