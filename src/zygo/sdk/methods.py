"""The methods of a function that go to its server, each in two forms: `f.remote(...)` and `await f.remote.aio(...)`.

Only their names are here: what they do, and with it asyncio, is loaded with the first of them that is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError
from zygo.sdk.unsupported import refusal

if TYPE_CHECKING:
    from zygo.sdk.function import Function

_HOMES = {
    **dict.fromkeys(("remote", "remote_gen", "update_autoscaler", "get_current_stats"), "operations"),
    **dict.fromkeys(("map", "starmap", "for_each"), "mapping"),
}


class Method:
    """A method that has an `.aio` twin."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Function | None, owner: type | None = None) -> Any:
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
        if self._name not in _HOMES:
            if self._name in ("spawn", "spawn_map"):
                self._function.check_call(self._name)
            raise refusal(f"Function {self._function.name!r}: .{self._name}()", LATER[self._name])
        module = importlib.import_module(f"zygo.sdk.{_HOMES[self._name]}")
        return module.OPERATIONS[self._name]


LATER = {
    "spawn": "Use .remote() in a thread, or .remote.aio() in a task.",
    "spawn_map": "Use .for_each() in a thread.",
    "with_options": "Set it in @app.function(...).",
    "with_concurrency": "Put @zygo.concurrent(...) below @app.function().",
    "with_batching": "Take a list as the function's argument.",
}
"""Methods that a later release brings, and what to use instead."""
