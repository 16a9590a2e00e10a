"""A curl line to paste for a web function, made from its signature. Best effort: what cannot be guessed is left out.

FastAPI's rules decide what is a query parameter, a body, a form or a file, but FastAPI need not be installed here: its
objects are told by the names of their types, since a signature that has them was made where it is.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote, urlencode

from zygo.sdk import sample_values as values

if TYPE_CHECKING:
    from zygo.model import ParameterSpec, WebSpec

_INJECTED = frozenset(
    {"Request", "Response", "WebSocket", "HTTPConnection", "BackgroundTasks", "SecurityScopes"},
)
_MARKERS = frozenset({"Query", "Path", "Body", "Form", "File", "Header", "Cookie", "Depends", "Security"})
_PATH_PARAMETER = re.compile(r"\{([^{}:]*)(?::[a-z]+)?\}")


@dataclass
class _Request:
    """The parts of the request that the sample makes."""

    path: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    cookies: list[tuple[str, str]] = field(default_factory=list)
    form: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)
    embed: bool = False


@dataclass(frozen=True)
class _Parameter:
    """One parameter of the handler: its annotation without `Annotated`, and FastAPI's marker on it if there is one."""

    name: str
    hint: Any
    default: Any
    marker: Any
    metadata: tuple[Any, ...]

    @property
    def kind(self) -> str:
        return type(self.marker).__name__ if self.marker is not None else ""

    @property
    def alias(self) -> str:
        return getattr(self.marker, "alias", None) or self.name


def of(func: Callable[..., Any], web: WebSpec, parameters: tuple[ParameterSpec, ...] = ()) -> str:
    """The rest of a curl line for `func`: the path and query to put after the URL ("?x=1", "/items/1"), then a space
    and curl's options, quoted for a shell ("-H 'Content-Type: application/json' -d '{...}'"). Either may be absent.

    The method is not part of it. "" when nothing is known, as for an ASGI application. `parameters` are those of the class
    whose method it is; those that need a value go into the query.
    """
    line = _of(func, web)
    required = {p.name: _EXAMPLES[p.type] for p in parameters if p.required}
    if not required:
        return line
    url, space, options = line.partition(" ")
    path, _, query = url.partition("?")
    return f"{path}?{urlencode(required)}{'&' if query else ''}{query}{space}{options}"


_EXAMPLES = {"str": "x", "bytes": "x", "int": "1", "bool": "true"}


def _of(func: Callable[..., Any], web: WebSpec) -> str:
    if web.kind != "fastapi_endpoint":
        return ""
    try:
        parameters = _parameters(func)
        request = _Request()
        for parameter in parameters:
            _add(request, parameter, web, func)
        return _line(request, web)
    except Exception:  # a signature of a kind not foreseen: an endpoint without a sample line is still an endpoint
        return ""


def _parameters(func: Callable[..., Any]) -> list[_Parameter]:
    # Raises for annotations that name what this machine lacks: no sample is better than a wrong one.
    hints = typing.get_type_hints(func, include_extras=True)
    found = []
    for parameter in inspect.signature(func).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(parameter.name, inspect.Parameter.empty)
        metadata = tuple(getattr(hint, "__metadata__", ()))
        marker = next((m for m in (parameter.default, *metadata) if _is_marker(m)), None)
        default = parameter.default
        if _is_marker(default):
            default = getattr(default, "default", inspect.Parameter.empty)
        if values.is_required(default):
            default = inspect.Parameter.empty
        if metadata:
            hint = hint.__origin__
        if marker is not None:
            metadata = (*metadata, *getattr(marker, "metadata", ()))
        found.append(_Parameter(parameter.name, values.without_none(hint), default, marker, metadata))
    return found


def _is_marker(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ in _MARKERS and kind.__module__.partition(".")[0] == "fastapi"


def _add(request: _Request, parameter: _Parameter, web: WebSpec, func: Callable[..., Any]) -> None:
    hint, kind = parameter.hint, parameter.kind
    required = parameter.default is inspect.Parameter.empty
    if kind in ("Depends", "Security") or getattr(hint, "__name__", "") in _INJECTED:
        return
    if parameter.name in _PATH_PARAMETER.findall(web.path):
        request.path[parameter.name] = _text(_value(parameter, func))
    elif kind == "File" or _is_upload(hint):
        if required:
            request.files.append(parameter.alias)
    elif kind == "Form":
        _add_form(request, parameter, func)
    elif kind == "Header":
        if required:
            name = parameter.alias.replace("_", "-") if getattr(parameter.marker, "convert_underscores", True) else ""
            request.headers.append((name or parameter.alias, _text(_value(parameter, func))))
    elif kind == "Cookie":
        if required:
            request.cookies.append((parameter.alias, _text(_value(parameter, func))))
    elif kind == "Body" or (kind != "Query" and values.is_body(hint)):
        if required or not request.bodies:
            request.bodies[parameter.alias] = _value(parameter, func)
            request.embed |= bool(getattr(parameter.marker, "embed", False))
    else:
        _add_query(request, parameter, func)


def _add_query(request: _Request, parameter: _Parameter, func: Callable[..., Any]) -> None:
    if parameter.default is None:
        return
    if values.is_model(parameter.hint):  # a model of query parameters
        request.query += [(k, _text(v)) for k, v in values.of_model(parameter.hint).items() if v is not None]
        return
    value = _value(parameter, func)
    for item in value if isinstance(value, (list, tuple)) else [value]:
        request.query.append((parameter.alias, _text(item)))


def _add_form(request: _Request, parameter: _Parameter, func: Callable[..., Any]) -> None:
    if values.is_model(parameter.hint):
        request.form += [(k, _text(v)) for k, v in values.of_model(parameter.hint).items() if v is not None]
    elif parameter.default is not None:
        request.form.append((parameter.alias, _text(_value(parameter, func))))


def _value(parameter: _Parameter, func: Callable[..., Any]) -> Any:
    if parameter.default is not inspect.Parameter.empty and values.is_plain(parameter.default):
        return parameter.default
    if values.is_free_form(parameter.hint):
        return values.of_keys_read(func, parameter.name)
    return values.of_hint(parameter.hint, parameter.name, parameter.metadata)


def _is_upload(hint: Any) -> bool:
    if typing.get_origin(hint) in (list, tuple):
        hint = (typing.get_args(hint) or (None,))[0]
    return getattr(hint, "__name__", "") == "UploadFile"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(values.plain(value)).strip('"')


def _line(request: _Request, web: WebSpec) -> str:
    path = _PATH_PARAMETER.sub(lambda m: quote(request.path.get(m[1], "1"), safe=""), web.path)
    target = (path if path != "/" else "") + (f"?{urlencode(request.query)}" if request.query else "")
    options: list[str] = []
    for name, value in request.headers:
        options += ["-H", f"{name}: {value}"]
    for name, value in request.cookies:
        options += ["-b", f"{name}={value}"]
    if request.form or request.files:
        for name, value in request.form:
            options += ["-F", f"{name}={value}"]
        for name in request.files:
            # Content and file name in place, so that the line works without a file.
            options += ["-F", f"{name}=hello;filename=hello.txt"]
    elif request.bodies:
        body = next(iter(request.bodies.values())) if len(request.bodies) == 1 and not request.embed else request.bodies
        options += ["-H", "Content-Type: application/json", "-d", json.dumps(values.plain(body), ensure_ascii=False)]
    return " ".join(part for part in (target, shlex.join(options)) if part)
