"""What went wrong in the user's code, told from their side: their frames, their line, and the mend where known."""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import traceback
from typing import TYPE_CHECKING

from zygo.errors import Error, UserCodeError
from zygo.sdk import modules
from zygo.sdk.image import missing_imports

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_KNOWN_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "github": "pygithub",
    "google": "google-api-python-client",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "multipart": "python-multipart",
    "mysqldb": "mysqlclient",
    "openssl": "pyopenssl",
    "pil": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "socketio": "python-socketio",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Module in lower case -> the distribution that has it, where the names differ."""

_BROUGHT = {
    "fastapi": ("starlette", "pydantic", "pydantic-core", "annotated-types", "python-multipart", "anyio", "httpx"),
    "scikit-learn": ("numpy", "scipy", "joblib"),
    "pandas": ("numpy", "python-dateutil"),
    "torch": ("numpy",),
    "transformers": ("numpy", "tokenizers", "huggingface-hub"),
}
"""Distribution -> others that come with it and that programs import by themselves."""

_ALWAYS_THERE = ("fastapi", "starlette", "pydantic", "multipart", "uvicorn", "anyio")
"""Modules that every container has, since the runtime brings them where the image does not."""


def user_error(error: BaseException, roots: Iterable[str], closure: modules.Closure | None = None) -> UserCodeError:
    """The user's own failure as an error that shows nothing of ours.

    Arguments:
        error: what was raised while their module was executed.
        roots: directories of their code; the traceback starts at the first frame in one of them.
        closure: their sources, to look for what the image installs.
    """
    trace = _trim(error.__traceback__, tuple(roots))
    error.__traceback__ = trace
    text = _format(error, tuple(roots))
    file, line = _place(error, trace, tuple(roots))
    where = f"{os.path.basename(file)}, line {line}: " if file and line else ""
    mend = _mend(error, file, line, closure)
    if isinstance(error, SystemExit):
        summary = f"it ends the process (SystemExit: {error.code}) while it is imported"
        mend = "Put what should only run as a program under `if __name__ == '__main__':`."
    else:
        summary = traceback.format_exception_only(type(error), error)[-1].strip()
    return UserCodeError(
        f"{where}{mend or summary}" if _replaces(mend) else _join(where + summary, mend), text, file, line
    )


def shown(error: BaseException, root: str) -> str:
    """What a program below the directory `root` raised, as Python prints it, without what called it and frames of ours."""
    trace = _trim(error.__traceback__, (root,))
    if trace is not None:
        error = error.with_traceback(trace)
    return _format(error, (root,))


def locate(error: Error, roots: Iterable[str]) -> None:
    """Put the user's file and line in front of the message of one of our errors that their code ran into."""
    file, line = _place(error, _trim(error.__traceback__, tuple(roots)), tuple(roots))
    if file and line:
        source = linecache.getline(file, line).strip()
        shown = f"\n\n    {line} | {source}" if source and "\n\n" not in str(error) else ""
        error.args = (f"{os.path.basename(file)}, line {line}: {error}{shown}", *error.args[1:])


def _replaces(mend: str) -> bool:
    return mend.startswith("module ")


def _join(summary: str, mend: str) -> str:
    return f"{summary}\n{mend}" if mend else summary


def _format(error: BaseException, roots: tuple[str, ...]) -> str:
    """The traceback as Python prints it, without the import system's frames and ours."""
    shown = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = shown
    seen: set[int] = set()
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        kept = [frame for frame in part.stack if _is_users(frame.filename, roots) or not _is_machinery(frame.filename)]
        part.stack[:] = kept
        part = part.__cause__ or part.__context__
    return "".join(shown.format())


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.startswith(_PACKAGE)


def _is_users(filename: str, roots: tuple[str, ...]) -> bool:
    if filename.startswith("<"):
        return False
    path = os.path.abspath(filename)
    return any(path.startswith(root.rstrip("/") + "/") and modules.is_local(root, path) for root in roots)


def _trim(trace: TracebackType | None, roots: tuple[str, ...]) -> TracebackType | None:
    """The traceback from the user's first frame on; all of it when they have none (then the error is in its text)."""
    frame = trace
    while frame is not None:
        if _is_users(frame.tb_frame.f_code.co_filename, roots):
            return frame
        frame = frame.tb_next
    return None


def _place(error: BaseException, trace: TracebackType | None, roots: tuple[str, ...]) -> tuple[str | None, int | None]:
    """File and line of the user's innermost frame."""
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename, roots):
        return error.filename, error.lineno
    file, line = None, None
    while trace is not None:
        if _is_users(trace.tb_frame.f_code.co_filename, roots):
            file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return file, line


def _mend(error: BaseException, file: str | None, line: int | None, closure: modules.Closure | None) -> str:
    if isinstance(error, ImportError) and error.name and (hiding := _hides_stdlib(error.name)):
        return f"{hiding} stands where Python looks first and hides its own module of that name. Rename {hiding}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing_module(error.name, file, line, closure)
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "A file that is part of a package is served as a module: zygo serve -m package.module"
    if isinstance(error, ImportError) and "'Stub'" in str(error):
        return "Stub is called App: from zygo import App"
    if isinstance(error, NameError) and missing_imports():
        names = ", ".join(missing_imports())
        return (
            f"{names} is missing on this machine, so the block under image.imports() ended there. What the module's "
            f"top level uses must be on this machine: install it here too, or use it inside the function."
        )
    return ""


def _hides_stdlib(name: str) -> str:
    """The user's file that was imported in the place of Python's own module, "" when there is none."""
    top = name.partition(".")[0]
    loaded = getattr(sys.modules.get(top), "__file__", None) or ""
    library = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
    return os.path.basename(loaded) if modules.is_stdlib(top) and loaded and not loaded.startswith(library) else ""


def _missing_module(name: str, file: str | None, line: int | None, closure: modules.Closure | None) -> str:
    top = name.partition(".")[0]
    statement = linecache.getline(file, line).strip() if file and line else ""
    if not statement.startswith(("import ", "from ")):
        statement = f"import {name}"
    if top.lower() in _ALWAYS_THERE or (closure and _in_image(top, closure)):
        return (
            f"module {top!r} is missing on this machine, present in the image. Import it only where it is:\n\n"
            f"    with image.imports():\n        {statement}\n\n"
            f"or inside the function that uses it, or install it on this machine too."
        )
    if closure is None:
        return ""
    distribution = _KNOWN_DISTRIBUTIONS.get(top.lower(), top.replace("_", "-"))
    return (
        f"module {top!r} is missing on this machine, and no image of this file installs it. Install it in the image "
        f"and import it there:\n\n    image = zygo.Image.debian_slim().pip_install({distribution!r})\n\n"
        f"    with image.imports():\n        {statement}"
    )


def _in_image(top: str, closure: modules.Closure) -> bool:
    wanted = _normal(top)
    names = {wanted, _normal(_KNOWN_DISTRIBUTIONS.get(top.lower(), top)), f"python-{wanted}", f"py{wanted}"}
    installed = set(installed_distributions(closure))
    for name in list(installed):
        installed.update(_BROUGHT.get(name, ()))
    if names & installed:
        return True
    # `google.cloud.storage` comes from google-cloud-storage, `opencv` has several builds.
    return any(name.startswith(f"{wanted}-") or _normal_stem(name) in names for name in installed)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _normal_stem(name: str) -> str:
    return re.sub(r"-(headless|binary|cpu|gpu|contrib.*)$", "", name)


def installed_distributions(closure: modules.Closure) -> list[str]:
    """The distributions that the sources' pip_install calls name, normalised. Read, not executed: the import that fails
    usually stands above the image."""
    names: list[str] = []
    for path in closure.files:
        tree = modules.parse(path)
        for node in ast.walk(tree) if tree else ():
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            texts = [a.value for a in ast.walk(node) if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if node.func.attr in ("pip_install", "uv_pip_install"):
                names += [_distribution(text) for text in texts]
            if node.func.attr in ("pip_install_from_requirements", "uv_pip_install"):
                names += [name for text in texts for name in _requirement_names(text)]
    return [name for name in names if name]


def _distribution(requirement: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return _normal(match[1]) if match else ""


def _requirement_names(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [_distribution(line) for line in file if not line.startswith(("-", "#"))]
    except (OSError, UnicodeDecodeError, ValueError):
        return []
