"""A function's parameters as command-line options: `def main(rows: int, dry_run: bool = False)` takes `--rows 3 --dry-run`;
and the option that many commands share."""

from __future__ import annotations

import argparse
import datetime
import inspect
import os
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import typer

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def set_environment(name: str | None) -> str | None:
    """Let this process, and those that it starts, mean the environment `name`."""
    if name:
        os.environ["ZYGO_ENVIRONMENT"] = name
    return name


Env = Annotated[
    str | None,
    typer.Option(
        "-e",
        "--env",
        metavar="NAME",
        callback=set_environment,
        help="The environment; else that of ZYGO_ENVIRONMENT or the profile.",
    ),
]

Convert = typing.Callable[[str], Any]


def read(raw: Callable[..., Any], shown: str, given: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments for `raw` that the words `given` stand for.

    Arguments:
        shown: what the command is called in its help and in errors: `zygo run file.py`.

    Raises InvalidError for parameters that cannot be options; SystemExit after `--help` (0) and for words that do not fit (2).
    """
    parameters = list(inspect.signature(raw).parameters.values())
    star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if star is not None:
        if len(parameters) > 1:
            raise InvalidError(
                f"{raw.__name__}() takes *{star} and other parameters. On a command line it gets either all words "
                f"(*{star} alone) or options: keep one kind."
            )
        return tuple(given[1:] if given[:1] == ["--"] else given), {}
    parser = argparse.ArgumentParser(
        shown, description=inspect.getdoc(raw), allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    hints = _hints(raw)
    for parameter in parameters:
        _add(parser, raw, parameter, hints.get(parameter.name, parameter.annotation))
    return (), vars(parser.parse_args(list(given)))


def _hints(raw: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(raw)
    except Exception:  # an annotation that only a type checker, or the image, can resolve
        return {}


def _add(parser: argparse.ArgumentParser, raw: Callable[..., Any], parameter: inspect.Parameter, hint: Any) -> None:
    name = parameter.name
    if parameter.kind is parameter.VAR_KEYWORD:
        raise InvalidError(f"{raw.__name__}() takes **{name}, which has no options. Name its parameters one by one.")
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    options: dict[str, Any] = {"dest": name, "required": required, "default": default}
    flag = f"--{name.replace('_', '-').strip('-').lower()}"
    kind = _kind(raw, name, hint, default)
    if not required and default is not None:
        options["help"] = f"default: {default}".replace("%", "%%")
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif isinstance(kind, tuple):
        texts = {str(value): value for value in kind}
        parser.add_argument(flag, type=_literal(texts), metavar="{" + ",".join(texts) + "}", **options)
    else:
        parser.add_argument(flag, type=kind, metavar=_metavar(kind), **options)


def _kind(raw: Callable[..., Any], name: str, hint: Any, default: Any) -> Convert | tuple[Any, ...]:
    """What makes the value of a word; the values of a Literal."""
    if hint is inspect.Parameter.empty or isinstance(hint, str):
        named = {"str": str, "int": int, "float": float, "bool": bool}.get(str(hint)) if isinstance(hint, str) else None
        hint = named or (type(default) if type(default) in (bool, int, float, str) else str)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(inner) == 1:
            return _kind(raw, name, inner[0], default)
    if origin is Literal:
        return typing.get_args(hint)
    if hint in (str, int, float, bool):
        kind: Convert = hint
        return kind
    if hint in (Any, object):
        return str
    if hint is datetime.datetime:
        return _moment
    if hint is datetime.date:
        return _date
    shown = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise InvalidError(
        f"{raw.__name__}() has the parameter {name}: {shown}, which cannot be an option. Options are str, int, float, bool, "
        f"datetime, Literal and Optional of these: take a str and convert it, or *args alone for all words."
    )


def _metavar(kind: Any) -> str:
    return {str: "TEXT", int: "INTEGER", float: "FLOAT", _moment: "TIME", _date: "DATE"}[kind]


def _moment(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-24 or 2026-11-24T18:00") from None


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-24") from None


def _literal(texts: dict[str, Any]) -> Convert:
    def convert(text: str) -> Any:
        if text not in texts:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(texts)}")
        return texts[text]

    return convert
