"""The methods of a function, and of a call, that go to the server, each in two forms: `f.remote(...)`, `await f.remote.aio(...)`.

Only their names are here: what they do, and with it asyncio, is loaded with the first of them that is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from zygo.sdk.function import Function

_HOMES = {
    **dict.fromkeys(("remote", "remote_gen", "update_autoscaler", "get_current_stats"), "operations"),
    **dict.fromkeys(("map", "starmap", "for_each"), "mapping"),
    **dict.fromkeys(("spawn", "spawn_map", "get", "iter", "num_inputs", "cancel"), "spawning"),
}


class Method:
    """A method that has an `.aio` twin."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else Bound(self._name, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(f".{self._name}() is a method of a function, not of the class Function.")


class Bound:
    """The method of one function."""

    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function

    def __repr__(self) -> str:
        return f"<{self._function!r}.{self._name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._operation().blocking(self._function, args, kwargs)

    def aio(self, *args: Any, **kwargs: Any) -> Any:
        """The same for async code: awaited, or iterated over with `async for`."""
        return self._operation().asynchronous(self._function, args, kwargs)

    def _operation(self) -> Any:
        module = importlib.import_module(f"zygo.sdk.{_HOMES[self._name]}")
        return module.OPERATIONS[self._name]
