"""What of a program `zygo run` runs: the local entrypoint or the function that the reference means. Nothing is called here."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

from zygo.errors import AppReferenceError, InvalidError
from zygo.loader import find_app
from zygo.sdk.app import App
from zygo.sdk.cls import Cls, MethodFunction
from zygo.sdk.function import Function

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from zygo.loader import Target
    from zygo.sdk.modules import Closure


class Undecided(InvalidError):
    """The program has several things to run, or none."""


@dataclass(frozen=True)
class Entry:
    """What is called. `function` is a function of the app, called in a container; None: `raw` is called here."""

    name: str
    raw: Callable[..., Any]
    function: Function | None = None


def choose(target: Target, closure: Closure, module: ModuleType) -> tuple[App, str, Entry]:
    """The app, its variable, and the entry that the reference means.

    Raises AppReferenceError when it means nothing, Undecided when the program has several candidates or none, InvalidError
    for what is not run this way.
    """
    wanted = target.ref.object
    if wanted is None:
        app, variable = find_app(target, closure, module)
        return app, variable, _only(target, app)
    first, _, rest = wanted.partition(".")
    value = vars(module).get(first)
    if isinstance(value, App):
        return value, first, _named(target, value, rest) if rest else _only(target, value)
    if isinstance(value, Cls) and rest in value.definition.methods:
        return value.app, _variable(module, value.app), _entry(target, getattr(value(), rest))
    if isinstance(value, Function) and not rest:
        return value.app, _variable(module, value.app), _entry(target, value)
    for variable, app in vars(module).items():
        if isinstance(app, App) and not rest:
            name = next(
                (name for name, raw in app.registered_entrypoints.items() if raw is value or name == first), None
            )
            if name is not None and (value is None or app.registered_entrypoints[name] is value or name == first):
                return app, variable, Entry(name, app.registered_entrypoints[name])
            if first in app.registered_functions:
                return app, variable, _entry(target, app.registered_functions[first])
    apps = [app for app in vars(module).values() if isinstance(app, App)]
    raise AppReferenceError(f"There is nothing called {wanted!r} to run in {target.shown}.{_listed(target, apps)}")


def _only(target: Target, app: App) -> Entry:
    entries = list(app.registered_entrypoints.items())
    if len(entries) == 1:
        return Entry(*entries[0])
    functions = [f for f in app.registered_functions.values() if f.web is None]
    if not entries and len(functions) == 1:
        return _entry(target, functions[0])
    if not entries and not functions and app.registered_functions:
        raise Undecided(
            f"{target.shown} only has web functions, which are called at their URLs. Use: zygo serve {target.shown}"
        )
    what = "several" if entries or functions else "no"
    kind = "local entrypoints" if entries else "functions"
    raise Undecided(f"{target.shown} has {what} {kind}.{_listed(target, [app])}")


def _named(target: Target, app: App, name: str) -> Entry:
    if name in app.registered_entrypoints:
        return Entry(name, app.registered_entrypoints[name])
    if name in app.registered_functions:
        return _entry(target, app.registered_functions[name])
    raise AppReferenceError(f"The app of {target.shown} has nothing called {name!r}.{_listed(target, [app])}")


def _entry(target: Target, function: Function) -> Entry:
    if function.web is not None:
        raise InvalidError(
            f"Function {function.name!r} is a web function, which is called at its URL. Use: zygo serve {target.shown}, "
            f"then the curl command that it shows."
        )
    if function.is_generator:
        raise InvalidError(
            f"Function {function.name!r} is a generator, whose items have nowhere to go here. Take them in a local "
            f"entrypoint:\n\n    @app.local_entrypoint()\n    def main():\n        for item in "
            f"{function.name}.remote_gen(...):\n            print(item)"
        )
    raw = inspect.unwrap(function.raw)
    return Entry(function.name, MethodType(raw, object()) if isinstance(function, MethodFunction) else raw, function)


def _variable(module: ModuleType, app: App) -> str:
    found = next((name for name, value in vars(module).items() if value is app), None)
    if found is None:
        raise AppReferenceError("The function's app is not at the top level of the file. Write there: app = zygo.App()")
    return found


def _listed(target: Target, apps: list[App]) -> str:
    names = [name for app in dict.fromkeys(apps) for name in app.registered_entrypoints]
    names += [
        f.name
        for app in dict.fromkeys(apps)
        for f in app.registered_functions.values()
        if f.web is None and not f.is_generator and f.name not in names
    ]
    if not names:
        return " Write one:\n\n    @app.local_entrypoint()\n    def main():\n        ..."
    return " Use one of:\n" + "".join(f"\n    zygo run {target.shown}::{name}" for name in names)
