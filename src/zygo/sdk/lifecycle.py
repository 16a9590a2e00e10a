"""What stands in the body of a class that is `@app.cls()`: the decorators of its methods, its parameters, and what they add up
to (`inspect_class`)."""

from __future__ import annotations

import base64
import importlib
import inspect
import sys
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from zygo.errors import InvalidError
from zygo.model import ParameterSpec
from zygo.sdk.correction import definition
from zygo.sdk.partial import Partial, Target, check_called, concurrent_on_method, is_method, owner_of, start

T = TypeVar("T")

TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "bytes": bytes}
"""What a parameter may be: what fits into a URL's query."""

_ABSENT: Any = object()


# -- the public decorators -------------------------------------------------------------------------------------------


def method(*positional: Any, is_generator: bool | None = None) -> Callable[[Target], Partial]:
    """Make a method of a class callable: `obj.name.remote(...)`, `.map(...)`, `.local(...)` and so on.

    `is_generator` says whether it yields its results; found out by itself. Raises InvalidError for a wrong use.
    """
    check_called("method", positional, "is_generator")

    def decorate(target: Target) -> Partial:
        partial = start("method", target)
        raw = inspect.unwrap(partial.raw)
        is_one = inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)
        if is_generator is not None and is_generator != is_one:
            raise InvalidError(f"{owner_of(partial.raw)}: is_generator={is_generator} is not what it is. Leave it out.")
        partial.method = True
        return partial

    return decorate


def enter(*positional: Any, snap: bool = False) -> Callable[[Target], Partial]:
    """Run a method when a container starts, before it takes its first input. Sync or async; a class may have several.

    With `snap` it runs once, in the process that all containers are forked from, and each of them begins with what it
    left: load a model there once. It must not leave threads, sockets or a GPU in use, and a class with parameters, which
    are not known yet, runs it in each container.
    """
    check_called("enter", positional, "snap")
    return lambda target: _hook("enter", "snap" if snap else "enter", target)


def exit(*positional: Any) -> Callable[[Target], Partial]:
    """Run a method when a container ends, after its last input, within the grace period. Sync or async."""
    check_called("exit", positional, "")
    return lambda target: _hook("exit", "exit", target)


def _hook(name: str, hook: str, target: Target) -> Partial:
    partial = start(name, target)
    raw = inspect.unwrap(partial.raw)
    if not is_method(partial.raw):
        raise InvalidError(
            f"@{name}() is on the function {partial.raw.__name__!r}, and it belongs on a method. Write:\n\n"
            f"    @app.cls()\n    class Service:\n        @zygo.{name}()\n"
            f"        def {partial.raw.__name__}(self):\n            ..."
        )
    if inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        raise InvalidError(f"{owner_of(partial.raw)} is a generator, and @{name}() runs it once. Leave the yield out.")
    required = [p for p in list(inspect.signature(partial.raw).parameters.values())[1:] if p.default is p.empty]
    # An old form of @exit took the three arguments of __exit__; nobody would pass them.
    if any(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in required):
        corrected = definition(partial.raw, f"zygo.{name}()")
        raise InvalidError(
            f"{owner_of(partial.raw)} has parameters, and what @{name}() decorates only gets self. Write:\n\n"
            f"    @zygo.{name}()\n    {corrected.keyword} {corrected.name}(self):\n        ..."
        )
    partial.hook = hook
    return partial


# -- parameters ------------------------------------------------------------------------------------------------------


class Parameter:
    """What `parameter()` leaves in the class: a default, and whether the constructor takes a value."""

    def __init__(self, default: Any, init: bool) -> None:
        self.default = default
        self.init = init

    @property
    def required(self) -> bool:
        return self.default is _ABSENT


def parameter(*, default: Any = _ABSENT, init: bool = True) -> Any:
    """A parameter of a class, as a field of a dataclass: `name: str = zygo.parameter(default="x")`.

    Arguments:
        default: used when the constructor gets none; without one it must get a value.
        init: False for a field that the constructor does not take.

    Each set of values has containers of its own. The types are str, int, bool and bytes.
    """
    return Parameter(default, init)


def encode_value(owner: str, name: str, kind: str, value: Any) -> Any:
    """A parameter's value as JSON has it. Raises InvalidError when it is of another type."""
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise InvalidError(
            f"{owner}: {name}={value!r} is of type {type(value).__name__}, and the parameter is a {kind}. "
            f"Give {name}={'...' if kind == 'bytes' else _example(kind)}."
        )
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def decode_value(kind: str, value: Any) -> Any:
    """The value that `encode_value` wrote."""
    return base64.b64decode(value) if kind == "bytes" else value


def _example(kind: str) -> str:
    return {"str": "'text'", "int": "1", "bool": "True"}[kind]


# -- the class as a whole --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassDefinition:
    """What a class says: hooks and methods in the order in which they run or stand, those of base classes first."""

    methods: dict[str, Partial]
    snaps: tuple[Partial, ...]
    enters: tuple[Partial, ...]
    exits: tuple[Partial, ...]
    parameters: tuple[ParameterSpec, ...]
    has_init: bool


def inspect_class(cls: type) -> ClassDefinition:
    """Read a class and its base classes. Raises InvalidError for what cannot work together."""
    partials: dict[str, Partial] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            partials.pop(name, None)  # a method that is defined anew is what the newest definition says
            if isinstance(value, Partial):
                partials[name] = value
    methods = {name: p for name, p in partials.items() if not p.hook}
    for name, partial in methods.items():
        partial.take()
        if partial.concurrency is not None:
            raise InvalidError(concurrent_on_method(partial.raw))
        if not (partial.method or partial.web or partial.batch):
            raise InvalidError(
                f"Class {cls.__name__!r}: {name} has @{partial.decorators[0]} and is no method to be called."
            )
    _check_batches(cls, methods)
    has_init = any("__init__" in vars(base) for base in cls.__mro__[:-1])
    parameters = _parameters(cls)
    if parameters and has_init:
        raise InvalidError(
            f"Class {cls.__name__!r} has both parameter() and an __init__, and the parameters are set without it. Put what "
            f"__init__ does into a method with @zygo.enter()."
        )
    hooks = {kind: tuple(p.take() for p in partials.values() if p.hook == kind) for kind in ("snap", "enter", "exit")}
    return ClassDefinition(methods, hooks["snap"], hooks["enter"], hooks["exit"], parameters, has_init)


def _check_batches(cls: type, methods: dict[str, Partial]) -> None:
    batched = [name for name, partial in methods.items() if partial.batch]
    if batched and len(methods) > 1:
        others = ", ".join(name for name in methods if name != batched[0])
        raise InvalidError(
            f"Class {cls.__name__!r} has the @batched method {batched[0]!r} and others ({others}); a batch is collected from all "
            f"inputs of a container, so it has to be the only one. Move the others to a class of their own."
        )
    servers = [name for name, partial in methods.items() if partial.web and partial.web.kind == "web_server"]
    if servers and len(methods) > 1:
        others = ", ".join(name for name in methods if name != servers[0])
        raise InvalidError(
            f"Class {cls.__name__!r} has the @web_server {servers[0]!r} and others ({others}); everything that reaches its "
            f"containers goes to the server's port. Move the others to a class of their own."
        )


def _parameters(cls: type) -> tuple[ParameterSpec, ...]:
    fields: dict[str, tuple[Parameter, type]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            fields.pop(name, None)
            if isinstance(value, Parameter):
                fields[name] = (value, base)
    owner = f"Class {cls.__name__!r}"
    return tuple(_parameter(owner, name, value, base) for name, (value, base) in fields.items())


def _parameter(owner: str, name: str, value: Parameter, base: type) -> ParameterSpec:
    annotation = (
        vars(base).get("__annotations__", {}).get(name) if sys.version_info < (3, 14) else _annotation(base, name)
    )
    if annotation is None:
        raise InvalidError(f"{owner}: the parameter {name!r} has no type. Write: {name}: str = zygo.parameter(...)")
    kind = annotation.strip() if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    if kind not in TYPES:
        raise InvalidError(
            f"{owner}: the parameter {name!r} is a {kind}, and it can be str, int, bool or bytes, which a URL can hold too. "
            f"Write: {name}: str = zygo.parameter(...)"
        )
    if value.required and not value.init:
        raise InvalidError(f"{owner}: the parameter {name!r} has init=False and no default, so nothing could set it.")
    default = None if value.required else encode_value(owner, name, kind, value.default)
    return ParameterSpec(name, kind, required=value.required, default=default, init=value.init)


def _annotation(base: type, name: str) -> Any:
    annotationlib = importlib.import_module("annotationlib")
    # As text: what is only there for a type checker has no value.
    return annotationlib.get_annotations(base, format=annotationlib.Format.FORWARDREF).get(name)
