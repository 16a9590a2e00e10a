"""Commands that people know and that come with a later release: named, and refused with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zygo.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

COMMANDS = {
    "container": "Until then `zygo server status` counts the containers.",
    "volume": "Until then add files with Image.add_local_dir().",
    "dict": "",
    "queue": "",
    "image": "",
    "shell": "",
    "setup": "There is nothing to set up: `zygo doctor` says what this machine lacks.",
    "config": "Until then settings are environment variables that begin with ZYGO_.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, hidden from its help."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name, instead in COMMANDS.items():
        app.command(name, hidden=True, context_settings=settings)(_refusal(name, instead))


def _refusal(name: str, instead: str) -> Callable[[], None]:
    def refuse() -> None:
        raise UnsupportedError(f"`zygo {name}` comes with a later release. {instead}".rstrip())

    refuse.__doc__ = "Comes with a later release."
    return refuse
