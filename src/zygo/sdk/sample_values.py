"""Sample values for types: what a person would type to try an endpoint out."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import typing
from typing import Any, Callable

from zygo.sdk import correction

_BY_TYPE: dict[str, Any] = {
    "int": 1,
    "float": 1.5,
    "bool": True,
    "str": "hello",
    "bytes": "hello",
    "complex": "1",
    "datetime": "2026-01-31T12:00:00",
    "date": "2026-01-31",
    "time": "12:00:00",
    "timedelta": 60,
    "Decimal": 1.5,
    "UUID": "123e4567-e89b-12d3-a456-426614174000",
    "Path": "hello.txt",
    "PurePath": "hello.txt",
    "EmailStr": "ada@example.org",
    "NameEmail": "ada@example.org",
    "AnyUrl": "https://example.org",
    "AnyHttpUrl": "https://example.org",
    "HttpUrl": "https://example.org",
    "IPv4Address": "192.0.2.1",
    "IPvAnyAddress": "192.0.2.1",
    "SecretStr": "hello",
    "Color": "red",
}
_BY_NAME = {"email": "ada@example.org", "url": "https://example.org", "name": "Ada", "user": "Ada", "username": "ada"}
_DEPTH = 4
"""Models that contain each other are followed so far."""


def is_required(default: Any) -> bool:
    """Whether a default means that there is none: `...` and the marks that pydantic uses."""
    return default is ... or type(default).__name__ in ("PydanticUndefinedType", "UndefinedType", "_Unset")


def is_model(hint: Any) -> bool:
    """Whether it is a Pydantic model, of version 1 or 2."""
    return isinstance(hint, type) and (hasattr(hint, "model_fields") or hasattr(hint, "__fields__"))


def is_free_form(hint: Any) -> bool:
    """Whether it is a dict without declared keys."""
    origin = typing.get_origin(hint) or hint
    return origin is dict or getattr(origin, "__name__", "") in ("Mapping", "MutableMapping", "Dict")


def is_body(hint: Any) -> bool:
    """Whether FastAPI reads a parameter of this type from the JSON body."""
    if is_model(hint) or is_free_form(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return True
    if typing.get_origin(hint) in (list, tuple, set, frozenset, typing.Union):
        return typing.get_origin(hint) is not typing.Union or any(map(is_body, typing.get_args(hint)))
    return hint in (list, tuple, set, frozenset) or _is_typed_dict(hint)


def is_plain(value: Any) -> bool:
    """Whether a default can be shown as it is."""
    return isinstance(value, (str, int, float, list, dict, enum.Enum)) and value is not None


def without_none(hint: Any) -> Any:
    """`X` of `Optional[X]` and `X | None`; the first of other unions."""
    if typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType":
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return parts[0] if parts else hint
    return hint


def of_hint(hint: Any, name: str, metadata: tuple[Any, ...] = (), depth: int = 0) -> Any:
    """A value of the type `hint` for something called `name`, within the bounds that `metadata` sets."""
    hint = without_none(hint)
    if hasattr(hint, "__metadata__"):
        return of_hint(hint.__origin__, name, (*hint.__metadata__, *metadata), depth)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return plain(arguments[0])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return plain(next(iter(hint)))
    if origin in (list, set, frozenset, tuple) or hint in (list, set, frozenset, tuple):
        inner = [a for a in arguments if a is not ...] or [str]
        return [of_hint(a, name, (), depth) for a in (inner if origin is tuple else inner[:1])]
    if is_free_form(hint):
        return {"key": of_hint(arguments[1], name, (), depth)} if len(arguments) == 2 and depth < _DEPTH else {}
    if is_model(hint):
        return of_model(hint, depth + 1) if depth < _DEPTH else {}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _of_dataclass(hint, depth + 1)
    if _is_typed_dict(hint):
        return {key: of_hint(value, key, (), depth + 1) for key, value in typing.get_type_hints(hint).items()}
    return _scalar(hint, name, metadata)


def of_model(model: Any, depth: int = 0) -> dict[str, Any]:
    """The fields of a Pydantic model: defaults where they have one, otherwise a value of their type."""
    found: dict[str, Any] = {}
    fields = getattr(model, "model_fields", None) or getattr(model, "__fields__", {})
    for name, info in fields.items():
        key = getattr(info, "validation_alias", None) or getattr(info, "alias", None) or name
        default = getattr(info, "default", ...)
        hint = getattr(info, "annotation", None) or getattr(info, "outer_type_", str)
        required = info.is_required() if callable(getattr(info, "is_required", None)) else info.required
        if required:
            found[str(key)] = of_hint(hint, name, tuple(getattr(info, "metadata", ())), depth)
        elif is_plain(default) and not is_required(default):
            found[str(key)] = plain(default)
    return found


def of_keys_read(func: Callable[..., Any], name: str) -> dict[str, Any]:
    """For a parameter that is a plain dict: the keys that the function reads, `item["x"]` or `item.get("x")`."""
    node = correction.syntax_of(func)
    found: dict[str, Any] = {}
    if node is None:
        return found
    parents = {id(child): parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}
    reads = (n for n in ast.walk(node) if isinstance(n, (ast.Subscript, ast.Call)))
    for part in sorted(reads, key=lambda n: (n.lineno, n.col_offset)):
        key, value = _key_read(part, name)
        if key is not None and key not in found:
            numeric = value is None and _is_number_used(part, parents)
            found[key] = value if value is not None else 1 if numeric else _BY_NAME.get(key, "hello")
    return found


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _scalar(hint: Any, name: str, metadata: tuple[Any, ...]) -> Any:
    kind = hint.strip() if isinstance(hint, str) else getattr(hint, "__name__", "")
    if hint is inspect.Parameter.empty or kind in ("", "Any", "object"):
        return "1"
    value = _BY_TYPE.get(kind)
    if value is None and isinstance(hint, type):
        value = next((_BY_TYPE[base.__name__] for base in hint.__mro__ if base.__name__ in _BY_TYPE), None)
    if value == "hello" and kind == "str":
        value = _BY_NAME.get(name, value)
    return _bounded("hello" if value is None else value, metadata)


def _bounded(value: Any, metadata: tuple[Any, ...]) -> Any:
    for mark in metadata:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            step = 1 if isinstance(value, int) else 0.5
            for attribute, inclusive, upper in (("ge", 1, 0), ("gt", 0, 0), ("le", 1, 1), ("lt", 0, 1)):
                bound = getattr(mark, attribute, None)
                if isinstance(bound, (int, float)):
                    outside = value > bound if upper else value < bound
                    if outside or (not inclusive and value == bound):
                        value = bound if inclusive else bound + (-step if upper else step)
        elif isinstance(value, str):
            least, most = getattr(mark, "min_length", None), getattr(mark, "max_length", None)
            if isinstance(least, int) and len(value) < least:
                value = (value * least)[:least]
            if isinstance(most, int) and len(value) > most:
                value = value[:most]
    return value


def _of_dataclass(kind: Any, depth: int) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    found = {}
    for item in dataclasses.fields(kind):
        if item.default is not dataclasses.MISSING:
            found[item.name] = plain(item.default)
        elif item.default_factory is dataclasses.MISSING:
            found[item.name] = of_hint(hints[item.name], item.name, (), depth)
    return found


def _is_typed_dict(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__total__")


def _key_read(node: ast.AST, name: str) -> tuple[str | None, Any]:
    """The key that this node reads from the dict called `name`, and the default it falls back to."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        index: Any = node.slice
        if _is_name(node.value, name) and isinstance(index, ast.Constant) and isinstance(index.value, str):
            return index.value, None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
        first = node.args[0] if node.args else None
        if _is_name(node.func.value, name) and isinstance(first, ast.Constant) and isinstance(first.value, str):
            default = node.args[1] if len(node.args) > 1 else None
            return first.value, default.value if isinstance(default, ast.Constant) else None
    return None, None


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_number_used(node: ast.AST, parents: dict[int, ast.AST]) -> bool:
    """Whether the value goes into arithmetic or into what only takes numbers."""
    parent = parents.get(id(node))
    if isinstance(parent, ast.BinOp):
        other = parent.right if parent.left is node else parent.left
        if isinstance(parent.op, (ast.Add, ast.Mult)):
            text = isinstance(other, ast.JoinedStr) or (
                isinstance(other, ast.Constant) and isinstance(other.value, str)
            )
            return not text
        return not (isinstance(parent.op, ast.Mod) and parent.right is node)
    if isinstance(parent, ast.UnaryOp):
        return isinstance(parent.op, (ast.USub, ast.UAdd))
    return (
        isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Name)
        and parent.func.id in ("int", "float", "range", "abs", "round", "pow", "bin", "hex")
    )
