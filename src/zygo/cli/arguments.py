"""A function's parameters as command-line options: `def main(rows: int, dry_run: bool = False)` takes `--rows 3 --dry-run`."""

from __future__ import annotations

import datetime
import inspect
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, Union

import click

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PLAIN: dict[Any, Any] = {str: click.STRING, int: click.INT, float: click.FLOAT, Any: click.STRING, object: click.STRING}
_MOMENTS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])


def read(raw: Callable[..., Any], shown: str, given: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments for `raw` that the words `given` stand for.

    Arguments:
        shown: what the command is called in its help and in errors: `zygo run file.py`.

    Raises InvalidError for parameters that cannot be options; click.UsageError for words that do not fit, and click's Exit
    after `--help`.
    """
    found: dict[str, Any] = {}
    command = click.Command(
        shown,
        params=_options(raw),
        callback=lambda **values: found.update(values),
        help=inspect.getdoc(raw),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    with command.make_context(shown, list(given)) as context:
        command.invoke(context)
    star = next((p.name for p in inspect.signature(raw).parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    if star is not None:
        return tuple(found[star.lower()]), {}
    names = {name.lower(): name for name in inspect.signature(raw).parameters}
    return (), {names[key]: _value(value) for key, value in found.items()}


def _value(value: Any) -> Any:
    return value.meant if isinstance(value, _Choice) else value


def _options(raw: Callable[..., Any]) -> list[click.Parameter]:
    parameters = list(inspect.signature(raw).parameters.values())
    hints = _hints(raw)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        if len(parameters) > 1:
            raise InvalidError(
                f"{raw.__name__}() takes *{next(p.name for p in parameters if p.kind is p.VAR_POSITIONAL)} and other "
                f"parameters. On a command line it gets either all words (*args alone) or options: keep one kind."
            )
        return [click.Argument([parameters[0].name.lower()], nargs=-1, type=click.UNPROCESSED)]
    return [_option(raw, parameter, hints.get(parameter.name, parameter.annotation)) for parameter in parameters]


def _hints(raw: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(raw)
    except Exception:  # an annotation that only a type checker, or the image, can resolve
        return {}


def _option(raw: Callable[..., Any], parameter: inspect.Parameter, hint: Any) -> click.Option:
    name, default = parameter.name, parameter.default
    if parameter.kind is parameter.VAR_KEYWORD:
        raise InvalidError(f"{raw.__name__}() takes **{name}, which has no options. Name its parameters one by one.")
    required = default is parameter.empty
    kind = _kind(raw, name, hint, None if required else default)
    option = name.replace("_", "-").strip("-").lower()
    settings: dict[str, Any] = {"required": required}
    if not required:
        settings |= {"default": default, "show_default": default is not None}
    if kind is click.BOOL:
        return click.Option([f"--{option}/--no-{option}", name.lower()], **settings)
    if isinstance(kind, _Literals) and not required and default is not None:
        settings["default"] = str(default)
    return click.Option([f"--{option}", name.lower()], type=kind, **settings)


def _kind(raw: Callable[..., Any], name: str, hint: Any, default: Any) -> click.ParamType:
    if hint is inspect.Parameter.empty or isinstance(hint, str):
        named = {"str": str, "int": int, "float": float, "bool": bool}.get(str(hint)) if isinstance(hint, str) else None
        hint = named or (type(default) if type(default) in (bool, int, float, str) else str)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(inner) == 1:
            return _kind(raw, name, inner[0], default)
    if origin is Literal:
        return _Literals(typing.get_args(hint))
    if hint is bool:
        return click.BOOL
    if hint in (datetime.datetime, datetime.date):
        return _Date() if hint is datetime.date else _MOMENTS
    if hint in _PLAIN:
        kind: click.ParamType = _PLAIN[hint]
        return kind
    shown = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise InvalidError(
        f"{raw.__name__}() has the parameter {name}: {shown}, which cannot be an option. Options are str, int, float, bool, "
        f"datetime, Literal and Optional of these: take a str and convert it, or *args alone for all words."
    )


class _Choice(str):
    """A chosen word, and the value it stands for."""

    meant: Any

    def __new__(cls, word: str, meant: Any) -> _Choice:
        made = super().__new__(cls, word)
        made.meant = meant
        return made


class _Literals(click.Choice[str]):
    """One of a Literal's values, written as their texts."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = {str(value): value for value in values}
        super().__init__(list(self._values))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        word = super().convert(str(value), param, ctx)
        return _Choice(word, self._values[word])


class _Date(click.ParamType):
    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime.date):
            return value
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2026-11-24.", param, ctx)
