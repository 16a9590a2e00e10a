"""References: `file.py::app` and `-m pkg.mod::app`, and the files behind them. Nothing is executed here."""

from __future__ import annotations

import difflib
import os
import re
import sys
from dataclasses import dataclass

from zygo.errors import AppReferenceError
from zygo.sdk import modules, plain

_RESERVED = frozenset(
    {
        *("zygo", "modal", "fastapi", "starlette", "pydantic", "pydantic_core", "uvicorn", "httptools", "uvloop"),
        *("websockets", "anyio", "sniffio", "h11", "click", "a2wsgi", "cloudpickle", "typing_extensions", "multipart"),
    }
)
"""Modules that every container imports: a user's file of that name would be taken for them."""


@dataclass(frozen=True)
class AppRef:
    """Which app: a file's path or a module's dotted name, and what in it (None: find it)."""

    path: str | None = None
    module: str | None = None
    object: str | None = None

    def __str__(self) -> str:
        text = self.path if self.path is not None else f"-m {self.module}"
        return f"{text}::{self.object}" if self.object else str(text)


@dataclass(frozen=True)
class Target:
    """A reference resolved to a file: `root` goes first on the path and becomes /root, `name` is the module's name."""

    ref: AppRef
    root: str
    path: str
    name: str

    @property
    def shown(self) -> str:
        return self.ref.path if self.ref.path is not None else f"-m {self.ref.module}"


def parse_ref(text: str, *, as_module: bool = False, command: str = "zygo serve") -> AppRef:
    """Read "file.py", "file.py::app" or, with `as_module`, "pkg.mod::app". Looks at no file but for a better message.

    Raises AppReferenceError with the corrected command.
    """
    place, separator, name = text.strip().partition("::")
    if not separator and re.fullmatch(r".+\.py:[A-Za-z_][\w.]*", place):
        place, _, name = place.rpartition(":")
        raise _reference(f"{text!r} has one colon between the file and the app.", f"{command} {place}::{name}")
    if not place or (separator and not name):
        raise _reference(f"{text!r} is not a file and an app.", f"{command} hello.py::app")
    if separator and not all(part.isidentifier() for part in name.split(".")):
        raise _reference(f"{name!r} is not the name of an app.", f"{command} {place}::app")
    suffix = f"::{name}" if separator else ""
    if as_module:
        if place.endswith(".py") or "/" in place:
            dotted = place[:-3] if place.endswith(".py") else place
            dotted = dotted.strip("./").replace("/", ".")
            raise _reference(f"{place!r} is a file, and -m takes a module.", f"{command} -m {dotted}{suffix}")
        if not all(part.isidentifier() for part in place.split(".")):
            raise _reference(f"{place!r} is not the name of a module.", f"{command} -m package.module{suffix}")
        return AppRef(module=place, object=name or None)
    if not place.endswith(".py"):
        raise _no_python_file(place, suffix, command)
    return AppRef(path=place, object=name or None)


def _no_python_file(place: str, suffix: str, command: str) -> AppReferenceError:
    if os.path.isdir(place):
        example = next(
            (f for f in ("app.py", "main.py", "hello.py") if os.path.exists(os.path.join(place, f))), "app.py"
        )
        return _reference(f"{place!r} is a directory.", f"{command} {os.path.join(place, example)}{suffix}")
    if os.path.exists(place):
        return _reference(f"{place!r} is not a Python file (.py).", f"{command} hello.py{suffix}")
    if os.path.exists(place + ".py"):
        return _reference(f"{place!r} lacks its ending.", f"{command} {place}.py{suffix}")
    if "." in place and all(part.isidentifier() for part in place.split(".")):
        return _reference(f"{place!r} looks like a module, and modules need -m.", f"{command} -m {place}{suffix}")
    return _reference(f"{place!r} is not a Python file (.py).", f"{command} {place}.py{suffix}")


def _reference(what: str, command: str) -> AppReferenceError:
    return AppReferenceError(f"{what} Use: {command}")


def locate(ref: AppRef) -> Target:
    """The file behind a reference. Raises AppReferenceError."""
    if ref.module is not None:
        return _locate_module(ref, ref.module)
    path = os.path.abspath(ref.path or "")
    part = plain.module_of(path) if os.path.isfile(path) else None
    if part is not None:
        return Target(ref, *part)
    if not os.path.isfile(path):
        directory = os.path.dirname(path)
        near = difflib.get_close_matches(os.path.basename(path), _python_files(directory), 1)
        mend = f" Did you mean {os.path.join(os.path.dirname(ref.path or ''), near[0])}?" if near else ""
        raise AppReferenceError(f"There is no file {ref.path}.{mend}")
    name = os.path.basename(path)[: -len(".py")]
    if "." in name or name in _RESERVED or _shadows(name, path):
        better = name.replace(".", "_") if "." in name else f"{name}_app"
        reason = (
            "has a dot in its name, and is imported by it" if "." in name else "has the name of a module that it needs"
        )
        raise AppReferenceError(f"{ref.path} {reason}. Rename it, for example to {better}.py.")
    return Target(ref, os.path.dirname(path), path, name)


def _locate_module(ref: AppRef, module: str) -> Target:
    root = os.getcwd()
    parts = module.split(".")
    base = os.path.join(root, *parts)
    for path in (base + ".py", os.path.join(base, "__init__.py")):
        if os.path.isfile(path):
            if parts[0] in _RESERVED:
                raise AppReferenceError(f"Module {module} has the name of one that it needs. Rename {parts[0]}.")
            return Target(ref, root, path, module)
    raise AppReferenceError(
        f"There is no module {module} in {root}. Run the command in the directory that holds {parts[0]}, "
        f"or serve a file: zygo serve path/to/file.py"
    )


def _python_files(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.endswith(".py"))
    except OSError:
        return []


def _shadows(name: str, path: str) -> bool:
    loaded = sys.modules.get(name)
    if loaded is None or not modules.is_stdlib(name):
        return False
    return os.path.abspath(getattr(loaded, "__file__", None) or "") != path
