"""Arguments and results as bytes: pickle, and cloudpickle for what pickle cannot (lambdas, classes of a script).

Protocol 5 on both sides, whatever the versions: Python 3.8 has it already. What cannot be read back is said with the side it
happened on, the missing thing and the mend.
"""

from __future__ import annotations

import importlib
import io
import pickle
import platform
import types
from typing import Any, Protocol

from zygo.errors import DeserializationError, SerializationError
from zygo.sdk import context, large

PROTOCOL = 5

_SCRIPTS = ("__main__", "__mp_main__")


class _ByValue(Exception):
    """Plain pickle would only write a name that means nothing on the other side."""


class _Plain(pickle.Pickler):
    """pickle, in C but for functions and classes; numbers, texts and containers of them never come by here."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, types.FunctionType)) and getattr(obj, "__module__", None) in _SCRIPTS:
            raise _ByValue
        return NotImplemented


def dumps(value: Any, what: str) -> bytes:
    """`value` as bytes. Raises SerializationError, which begins with `what`, such as "The arguments of square"."""
    buffer = _Buffer()
    dump(value, what, buffer)
    return buffer.getvalue()


class _Buffer(io.BytesIO):
    def restart(self) -> None:
        self.seek(0)
        self.truncate()


class Sink(Protocol):
    """Where pickled bytes go; `restart` forgets those that came so far."""

    def write(self, data: Any) -> int: ...
    def restart(self) -> None: ...


def store(value: Any, what: str) -> large.Payload:
    """`value` as a payload, in a file when it is large. Raises SerializationError."""
    spool = large.Spool()
    dump(value, what, spool)
    return spool.payload()


def dump(value: Any, what: str, sink: Sink) -> None:
    """Pickle `value` into `sink`. Raises SerializationError, and what the sink raises."""
    try:
        _Plain(sink, PROTOCOL).dump(value)
        return
    except (_ByValue, pickle.PicklingError, AttributeError, TypeError):
        pass  # cloudpickle can more; what it says about the rest is better
    except RecursionError as error:
        raise _unpicklable(what, error) from None
    sink.restart()
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ImportError as error:
        raise SerializationError(
            f"{what} cannot be pickled {_here()} without cloudpickle, which is not installed: pip install cloudpickle"
        ) from error
    try:
        cloudpickle.dump(value, sink, PROTOCOL)
    except Exception as error:
        raise _unpicklable(what, error) from error


def loads(data: Any, what: str, origin: str) -> Any:
    """The value of a payload, or of what a stream brings. `origin` is the Python version that wrote it.

    Raises DeserializationError.
    """
    try:
        if isinstance(data, bytes):
            return pickle.loads(data)
        if isinstance(data, large.Stored):
            with data.open() as file:
                return pickle.load(file)
        return pickle.load(data)
    except Exception as error:
        raise DeserializationError(unreadable(error, what, origin)) from error


def unreadable(error: BaseException, what: str, origin: str) -> str:
    """Why `what` cannot be read here, and the mend."""
    own = platform.python_version()
    there, here = ("the container", "this process") if context.is_local() else ("the caller", "this container")
    text = f"{what} cannot be read {_here()}: {type(error).__name__}: {error}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        mend = (
            "install it here, or run where it can be imported, or return plain values"
            if context.is_local()
            else f"add it to the image, with .pip_install({top!r}) or .add_local_python_source({top!r}), or pass plain values"
        )
        return f"{text} It needs the module {top!r}, which {here} does not have: {mend}."
    if isinstance(error, AttributeError):
        return (
            f"{text} It needs a class or function that {there} has and {here} has not: use the same code on both sides."
        )
    if origin and origin.split(".")[:2] != own.split(".")[:2]:
        return (
            f"{text} {there.capitalize()} has Python {origin}, {here} {own}: use one version, "
            f"Image.debian_slim(python_version=...), or pass plain values."
        )
    return f"{text} The libraries of {there} and {here} may be of different versions: pin them, or pass plain values."


def _unpicklable(what: str, error: BaseException) -> SerializationError:
    return SerializationError(
        f"{what} cannot be pickled {_here()}: {type(error).__name__}: {error}. "
        f"Open files, connections, locks and the like stay where they are: pass what they are made from."
    )


def _here() -> str:
    return "on the caller's side" if context.is_local() else "in the container"
