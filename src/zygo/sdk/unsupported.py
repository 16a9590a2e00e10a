"""Names that Modal has and zygo does not yet: they can be imported and named, and say what to use instead when used."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from zygo.errors import UnsupportedError

_STATE = "Keep the data in a database or a service that the function connects to."
NAMES = {
    "Client": "The zygo command finds its server by itself.",
    "CloudBucketMount": "Read the bucket with its own library inside the function.",
    "Cron": "Let cron or a systemd timer call the function's URL with curl.",
    "Dict": _STATE,
    "Environment": "Use `zygo environment create`, and environment_name= of what is looked up.",
    "Mount": "Use image.add_local_dir(), add_local_file() or add_local_python_source().",
    "NetworkFileSystem": _STATE,
    "Period": "Let cron or a systemd timer call the function's URL with curl.",
    "Probe": "A web function is ready once its module is imported.",
    "Proxy": "Requests to the outside leave from this machine's own address.",
    "Queue": _STATE,
    "Sandbox": "Run the program with subprocess inside a function.",
    "SandboxSnapshot": "Run the program with subprocess inside a function.",
    "SchedulerPlacement": "Every container runs on this machine.",
    "Server": "Serve an ASGI application with @zygo.asgi_app().",
    "Tunnel": "Every web function has a URL of its own.",
    "Volume": "Ship files that are only read with image.add_local_dir(); " + _STATE[0].lower() + _STATE[1:],
    "Workspace": "Set ZYGO_WORKSPACE for the server.",
    "billing": "Nothing is billed.",
    "experimental": "Leave it out.",
    "forward": "Every web function has a URL of its own.",
    "gpu": "Give gpu= a text such as 'H100'.",
    "interact": "Run the function with .local() in a debugger.",
    "runner": "Use `zygo serve FILE`.",
    "types": "Leave it out.",
}
"""Name -> what to use instead."""

MODULES = {
    "volume": ("Volume",),
    "queue": ("Queue",),
    "dict": ("Dict",),
    "sandbox": ("Sandbox",),
    "schedule": ("Cron", "Period"),
    "network_file_system": ("NetworkFileSystem",),
    "cloud_bucket_mount": ("CloudBucketMount",),
    "mount": ("Mount",),
    "client": ("Client",),
    "proxy": ("Proxy",),
    "environments": ("Environment",),
    "experimental": (),
    "gpu": (),
    "runner": (),
    "types": (),
    "billing": (),
}
"""Submodules that exist so that `from modal.volume import Volume` works as `modal.Volume` does."""


def refusal(what: str, instead: str) -> UnsupportedError:
    """The error for a feature that a later release brings."""
    return UnsupportedError(f"{what} is not supported yet. {instead}")


class Unsupported:
    """Stands for one name. It may be imported, compared, annotated with and tested with isinstance(); calling it or
    reading an attribute of it raises UnsupportedError."""

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise refusal(f"zygo.{self._name}", self._instead)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        raise refusal(f"zygo.{self._name}.{attribute}", self._instead)

    def __mro_entries__(self, bases: Any) -> Any:
        raise refusal(f"zygo.{self._name}", self._instead)

    def __getitem__(self, key: Any) -> Any:
        raise refusal(f"zygo.{self._name}", self._instead)

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __or__(self, other: Any) -> Any:
        # In an annotation: `volume: zygo.Volume | None`.
        return Any

    __ror__ = __or__

    def __repr__(self) -> str:
        return f"<zygo.{self._name}, not supported yet>"


_made: dict[str, Unsupported] = {}


def placeholder(name: str) -> Unsupported:
    """What stands for `name`, always the same object. Raises KeyError for a name that Modal has not either."""
    if name not in _made:
        _made[name] = Unsupported(name, NAMES[name])
    return _made[name]


class _UnsupportedModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = MODULES[self.__name__.rpartition(".")[2]]
        if name in known:
            return placeholder(name)
        return Unsupported(f"{self.__name__.rpartition('.')[2]}.{name}", "Leave it out.")


def module(name: str) -> ModuleType:
    """A module that stands for Modal's `modal.<name>`."""
    return _UnsupportedModule(f"modal.{name}")
