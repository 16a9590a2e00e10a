"""Where the server of this user is, by the settings."""

from __future__ import annotations

import os
from pathlib import Path

from zygo import paths
from zygo.sdk.launch import Place

_OWN = {"ZYGO_DATA_DIR", "ZYGO_RUNTIME_DIR"}


def place() -> Place:
    """The control socket and data directory that the settings name. Raises InvalidError for a bad setting."""
    if any(name.startswith("ZYGO_") and name not in _OWN for name in os.environ):
        _check_settings()  # one that is wrong is told by the command, not by a server that does not start
    data = os.environ.get("ZYGO_DATA_DIR")
    runtime = os.environ.get("ZYGO_RUNTIME_DIR")
    return Place(
        paths.control_socket(Path(runtime) if runtime else paths.default_runtime_dir()),
        Path(data) if data else paths.default_data_dir(),
    )


def _check_settings() -> None:
    from pydantic import ValidationError

    from zygo.errors import InvalidError
    from zygo.settings import Settings

    try:
        Settings()
    except ValidationError as error:
        problems = [f"ZYGO_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        raise InvalidError("A setting is not valid. " + "; ".join(problems)) from None
