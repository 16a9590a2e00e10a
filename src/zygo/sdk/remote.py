"""A failure in a container as a record, and back: the caller gets the exception itself, with the remote traceback.

A record is a dict of plain values, so that it can be read whatever the exception was:

    kind        exception, timeout, cancelled, serialization, deserialization
    text        the formatted traceback, or the sentence that says what happened
    type, repr  of the exception; pickled: its bytes, None when it has none, with the reason in `why`
    frames      [file, line, name, source] of each of the user's frames, outermost first
    cause, context, suppress      its chain, as records
    container   whose failure it was; python: the version there
"""

from __future__ import annotations

import linecache
import pickle
import platform
import sys
import traceback
from types import TracebackType
from typing import Any

from zygo import errors
from zygo.sdk import context, payload

MAX_REPR = 2 * 2**20
MAX_CHAIN = 16
"""Exceptions of one chain that are sent; more than that is a loop that gathers them."""

_OURS = ("/zygo/guest/", "/zygo/sdk/")


def record(error: BaseException, text: str) -> dict[str, Any]:
    """`error` as a record, `text` its formatted traceback. Never raises."""
    made = _link(error, MAX_CHAIN)
    made.update(kind="exception", text=text, container=context.container_id() or "", python=platform.python_version())
    return made


def said(kind: str, text: str) -> dict[str, Any]:
    """A record of something that is no exception of the user's."""
    return {"kind": kind, "text": text, "container": context.container_id() or "", "python": platform.python_version()}


def dump(made: dict[str, Any]) -> bytes:
    """A record as bytes."""
    return pickle.dumps(made, payload.PROTOCOL)


def _link(error: BaseException, left: int) -> dict[str, Any]:
    pickled, why = _pickled(error)
    cause, before = error.__cause__, error.__context__
    return {
        "type": type(error).__name__,
        "repr": _repr(error)[:MAX_REPR],
        "pickled": pickled,
        "why": why,
        "frames": _frames(error.__traceback__),
        "cause": _link(cause, left - 1) if cause is not None and left else None,
        "context": _link(before, left - 1) if before is not None and cause is None and left else None,
        "suppress": error.__suppress_context__,
    }


def _repr(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return f"{type(error).__name__}(...)"


def _pickled(error: BaseException) -> tuple[bytes | None, str]:
    """Its bytes. An exception whose __init__ takes something else than its args can be pickled and not read back, so that
    is tried here, and then it goes without its __init__."""
    for value in (error, _Rebuilt(error)):
        try:
            data = payload.dumps(value, "The exception")
            pickle.loads(data)
            return data, ""
        except Exception as problem:
            why = str(problem)
    return None, why


class _Rebuilt:
    """Pickles as the exception, made without its __init__."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        error = self._error
        return rebuild, (type(error), error.args, {k: v for k, v in vars(error).items() if k != "__notes__"})


def rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception of `cls` with these args and attributes, without calling its __init__."""
    made = cls.__new__(cls, *args)
    made.args = args
    made.__dict__.update(state)
    return made


def _frames(tb: TracebackType | None) -> list[tuple[str, int, str, str]]:
    found = []
    for frame in traceback.extract_tb(tb):
        if not any(part in frame.filename for part in _OURS):
            found.append((frame.filename, frame.lineno or 0, frame.name, _source(frame.filename, frame.lineno or 0)))
    return found


def _source(file: str, line: int) -> str:
    return linecache.getline(file, line).rstrip("\n")


# -- the caller's side ------------------------------------------------------------------------------------------------


def revive(data: bytes, function: str) -> BaseException:
    """The exception that a record stands for, to be raised by the caller of `function`."""
    try:
        made = pickle.loads(data)
        kind, text = made["kind"], made["text"]
    except Exception as error:
        return errors.InternalFailure(f"The failure of {function} cannot be read: {type(error).__name__}: {error}")
    simple = _KINDS.get(kind)
    if simple is not None:
        return simple(text)
    if kind == "cancelled":
        return errors.InputCancellation(text)
    return _exception(made, made, function)


_KINDS = {
    "timeout": errors.FunctionTimeoutError,
    "serialization": errors.SerializationError,
    "deserialization": errors.DeserializationError,
}


def _exception(made: dict[str, Any], whole: dict[str, Any], function: str) -> BaseException:
    error = _read(made, whole, function)
    cause, before = made.get("cause"), made.get("context")
    if cause is not None:
        error.__cause__ = _exception(cause, whole, function)
    if before is not None:
        error.__context__ = _exception(before, whole, function)
    error.__suppress_context__ = bool(made.get("suppress"))
    return error.with_traceback(_traceback(made["frames"], str(whole.get("container") or "")))


def _read(made: dict[str, Any], whole: dict[str, Any], function: str) -> BaseException:
    remote = f"The remote traceback:\n\n{whole['text']}"
    if made["pickled"] is None:
        return errors.SerializationError(
            f"{function} raised {made['type']}, which cannot be pickled in the container: {made['why']} "
            f"Raise one whose attributes are plain values. {remote}"
        )
    try:
        error = pickle.loads(made["pickled"])
    except Exception as problem:
        reason = payload.unreadable(problem, f"The exception {made['type']} of {function}", str(whole.get("python")))
        return errors.DeserializationError(f"{reason} {remote}")
    return error if isinstance(error, BaseException) else errors.RemoteError(f"{made['repr']}. {remote}")


def _traceback(frames: list[tuple[str, int, str, str]], container: str) -> TracebackType | None:
    """A traceback of frames that look like the remote ones, their source lines included."""
    tb = None
    for file, line, name, source in reversed(frames):
        shown = f"<{container}>:{file}" if container else file
        _remember(shown, line, source)
        frame = _frame(shown, line, name)
        # An instruction of -1 is none: otherwise Python marks columns of this module's own code below the line.
        tb = TracebackType(tb, frame, -1 if sys.version_info >= (3, 11) else frame.f_lasti, line)
    return tb


def _remember(file: str, line: int, source: str) -> None:
    known: Any = linecache.cache.get(file)
    lines = known[2] if known is not None and len(known) == 4 else []
    kept = [*lines, *[""] * (line - len(lines))]
    if line > 0:
        kept[line - 1] = source + "\n"
    # Without a modification time nobody looks for the file on this machine.
    linecache.cache[file] = (len(kept), None, kept, file)


def _frame(file: str, line: int, name: str) -> Any:
    changes: dict[str, Any] = {"co_filename": file, "co_name": name, "co_firstlineno": max(line, 1)}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = name
    scope: dict[str, Any] = {"__name__": "remote", "__file__": file, "_getframe": sys._getframe}
    return eval(_STUB.replace(**changes), scope)


_STUB = compile("_getframe()", "remote", "eval")
