"""Where the server of this user is, by the settings."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from zygo import paths
from zygo.errors import InvalidError
from zygo.sdk import distant, where
from zygo.sdk.client import Client
from zygo.sdk.launch import Place

_OWN = {
    "ZYGO_DATA_DIR",
    "ZYGO_RUNTIME_DIR",
    "ZYGO_SERVER",
    "ZYGO_TOKEN",
    "ZYGO_PROFILE",
    "ZYGO_SSH",
    "ZYGO_ENVIRONMENT",
}


def place() -> Place:
    """The server that is meant: the one on another machine, or the control socket and data directory that the settings name.

    Raises InvalidError for a bad setting.
    """
    return dataclasses.replace(own(), remote=where.server())


def client() -> Client:
    """A client of the server that is meant, as it is: nothing is started. `reconnect` comes before its first request."""
    found = place()
    return distant.client_of(found.remote) if found.remote is not None else Client(found.socket)


def refuse_remote(what: str) -> None:
    """Raises InvalidError when another machine's server is meant."""
    remote = where.server()
    if remote is not None:
        there = f"ssh {remote.host} {what}" if remote.scheme == "ssh" else f"`{what}` on {remote.host}"
        raise InvalidError(
            f"`{what}` is for the server of the machine it is run on, and {remote.name} is meant here (--server, ZYGO_SERVER or "
            f"a profile). For that one: {there}. For this machine's own: ZYGO_SERVER=local {what}"
        )


def own() -> Place:
    """The place of this machine's own server, for this user."""
    if any(name.startswith("ZYGO_") and name not in _OWN for name in os.environ):
        from zygo.settings import Settings

        Settings()  # one that is wrong is told by the command, not by a server that does not start
    data = os.environ.get("ZYGO_DATA_DIR")
    runtime = os.environ.get("ZYGO_RUNTIME_DIR")
    return Place(
        paths.control_socket(Path(runtime) if runtime else paths.default_runtime_dir()),
        Path(data) if data else paths.default_data_dir(),
    )
