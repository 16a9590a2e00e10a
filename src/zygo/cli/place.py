"""Where the server of this user is, by the settings."""

from __future__ import annotations

from zygo.sdk.launch import Place


def place() -> Place:
    """The control socket and data directory that the settings name. Raises InvalidError for a bad setting."""
    from pydantic import ValidationError

    from zygo.errors import InvalidError
    from zygo.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        problems = [f"ZYGO_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        raise InvalidError("A setting is not valid. " + "; ".join(problems)) from None
    return Place(settings.control_socket, settings.data_dir)
