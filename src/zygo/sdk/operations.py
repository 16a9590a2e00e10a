"""What the methods of a function do: the work of each is a coroutine or an async generator, the rest is done where the caller
is (pickling and unpickling run the user's code, which belongs to the user's thread)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import Error, InvalidError
from zygo.sdk import background, calls, payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from zygo.sdk.calls import Target
    from zygo.sdk.function import Function
    from zygo.sdk.large import Payload

KNOWN_SECONDS = 10.0
"""How long is taken for true what the server said of a function (whether it repeats, what its URL is)."""


class Operation:
    """One method. `work` gets what `prepare` made of the arguments; `finish` makes the caller's value of its result."""

    def __init__(
        self,
        name: str,
        prepare: Callable[[Function, tuple[Any, ...], dict[str, Any]], Any],
        work: Callable[[Function, Any], Coroutine[Any, Any, Any]],
        finish: Callable[[Function, Any], Any],
    ) -> None:
        self._name, self._prepare, self._work, self._finish = name, prepare, work, finish

    def blocking(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The method for blocking code."""
        prepared = self._prepare(function, args, kwargs)
        try:
            result = background.run(self._work(function, prepared), f"{function.name}.{self._name}()")
        except (calls.Raised, Error) as raised:
            error = calls.what_was_raised(raised)
        else:
            return self._finish(function, result)
        raise error

    async def asynchronous(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The method for async code."""
        prepared = self._prepare(function, args, kwargs)
        try:
            result = await self._work(function, prepared)
        except (calls.Raised, Error) as raised:
            error = calls.what_was_raised(raised)
        else:
            return self._finish(function, result)
        raise error


class Stream:
    """One method that yields; `finish` is for each item."""

    def __init__(
        self,
        name: str,
        prepare: Callable[[Function, tuple[Any, ...], dict[str, Any]], Any],
        work: Callable[[Function, Any], AsyncIterator[Any]],
        finish: Callable[[Function, Any], Any],
    ) -> None:
        self._name, self._prepare, self._work, self._finish = name, prepare, work, finish

    def blocking(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        """The method for blocking code: checks at once, works with the first item."""
        prepared = self._prepare(function, args, kwargs)
        return self._blocking(function, prepared)

    def _blocking(self, function: Function, prepared: Any) -> Iterator[Any]:
        try:
            for item in background.iterate(self._work(function, prepared), f"{function.name}.{self._name}()"):
                yield self._finish(function, item)
            return
        except (calls.Raised, Error) as raised:
            error = calls.what_was_raised(raised)
        raise error

    async def asynchronous(
        self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """The method for async code."""
        items = self._work(function, self._prepare(function, args, kwargs))
        try:
            async for item in items:
                yield self._finish(function, item)
            return
        except (calls.Raised, Error) as raised:
            error = calls.what_was_raised(raised)
        finally:
            await items.aclose()  # type: ignore[attr-defined]
        raise error


async def find(function: Function) -> Target:
    """What the server knows of `function`. Raises NotFoundError, and ExecutionError when it has no app to look in."""
    now = time.monotonic()
    known = function.known
    if known is None or now > known[1]:
        known = function.known = (
            await calls.find(function.app_name, function.name, function.variant),
            now + KNOWN_SECONDS,
        )
    found = known[0]
    assert isinstance(found, calls.Target)
    return found


async def find_called(function: Function, method: str, *, generator: bool | None) -> Target:
    """The same for one that is called by `method`. Raises InvalidError when that does not fit it."""
    found = await find(function)
    check(function, method, found.web_url is not None, found.web_url, found.generator, generator)
    return found


def check(function: Function, method: str, web: bool, url: str | None, is_generator: bool, wanted: bool | None) -> None:
    """Raises InvalidError when a function of this kind is not called by `method`, which wants a generator or not."""
    name = function.name
    if web:
        where = f"Call its URL {url}" if url else "Call its URL (shown by `zygo serve`)"
        raise InvalidError(
            f"Function {name!r} is a web function, so .{method}() does not apply. "
            f"{where}, or {name}.local(...) to run it in this process."
        )
    if wanted is not None and is_generator != wanted:
        if is_generator:
            raise InvalidError(f"Function {name!r} is a generator. Use: for item in {name}.remote_gen(...)")
        raise InvalidError(f"Function {name!r} is not a generator. Use: {name}.remote(...)")


def _call_input(method: str) -> Callable[[Function, tuple[Any, ...], dict[str, Any]], Payload]:
    def prepare(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        function.check_call(method)
        return calls.arguments(function.name, args, kwargs)

    return prepare


async def _remote(function: Function, data: Payload) -> Payload:
    return await calls.call(await find_called(function, "remote", generator=False), data)


async def _remote_gen(function: Function, data: Payload) -> AsyncIterator[Payload]:
    items = calls.generate(await find_called(function, "remote_gen", generator=True), data)
    try:
        async for item in items:
            yield item
    finally:
        await items.aclose()  # type: ignore[attr-defined]


def _read(function: Function, data: Payload) -> Any:
    return payload.loads(data, f"The result of {function.name}", "")


# -- autoscaling ------------------------------------------------------------------------------------------------------

_SETTINGS = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")


@dataclass(frozen=True)
class FunctionStats:
    """How busy a function is: inputs that wait, its containers, inputs at work, and how many more would start at once."""

    backlog: int
    num_total_runners: int
    num_running_inputs: int = 0
    input_headroom: int = 0


def _settings(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise InvalidError(
            f"{function.name}.update_autoscaler() only takes keyword arguments, such as min_containers=1."
        )
    for name in kwargs:
        if name not in _SETTINGS:
            raise InvalidError(
                f"{function.name}.update_autoscaler() has no parameter {name!r}: {', '.join(_SETTINGS)}."
            )
    return {name: value for name, value in kwargs.items() if value is not None}


async def _update_autoscaler(function: Function, settings: dict[str, Any]) -> dict[str, Any]:
    found = await find(function)
    return await calls.ask("POST", f"/v1/functions/{found.id}/autoscaler", settings)


def _nothing(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if args or kwargs:
        raise InvalidError(f"{function.name}.get_current_stats() takes no arguments.")


async def _stats(function: Function, prepared: None) -> dict[str, Any]:
    found = await find(function)
    return await calls.ask("GET", f"/v1/functions/{found.id}/stats")


OPERATIONS = {
    "remote": Operation("remote", _call_input("remote"), _remote, _read),
    "remote_gen": Stream("remote_gen", _call_input("remote_gen"), _remote_gen, _read),
    "update_autoscaler": Operation(
        "update_autoscaler", _settings, _update_autoscaler, lambda function, said: dict(said)
    ),
    "get_current_stats": Operation("get_current_stats", _nothing, _stats, lambda function, said: FunctionStats(**said)),
}
