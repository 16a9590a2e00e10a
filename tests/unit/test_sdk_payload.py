"""Values as bytes and back, and what is said when that cannot be."""

from __future__ import annotations

import linecache
import pickle
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from zygo.errors import (
    DeserializationError,
    FunctionTimeoutError,
    InputCancellation,
    InternalFailure,
    SerializationError,
)
from zygo.sdk import payload, remote

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("value", [1, "text", {"a": [1, 2.5, None]}, (b"x" * 1000,), {1, 2}, ValueError("x").args])
def test_plain_values(value: Any) -> None:
    assert payload.loads(payload.dumps(value, "It"), "It", "") == value


def test_what_pickle_cannot_goes_by_value() -> None:
    factor = 3
    function: Callable[[int], int] = payload.loads(payload.dumps(lambda x: x * factor, "It"), "It", "")
    assert function(4) == 12


def test_what_nobody_can_says_whose_side_it_is() -> None:
    with pytest.raises(SerializationError, match=r"^The arguments of f cannot be pickled on the caller's side: .*lock"):
        payload.dumps(threading.Lock(), "The arguments of f")


def test_a_missing_module_is_named() -> None:
    data = b"\x80\x05\x8c\x10nowhere_at_all_x\x8c\x05Thing\x93."
    with pytest.raises(
        DeserializationError, match=r"needs the module 'nowhere_at_all_x', which this process does not have"
    ):
        payload.loads(data, "The result of f", "3.12.1")


def test_another_python_is_named() -> None:
    with pytest.raises(DeserializationError, match=r"container has Python 3\.99\.1, this process"):
        payload.loads(b"\x80\x05nonsense", "The result of f", "3.99.1")


class Needy(Exception):
    """Cannot be read back by pickle alone: its __init__ wants more than its args."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def revived(error: BaseException) -> BaseException:
    return remote.revive(remote.dump(remote.record(error, "the text")), "f")


def test_an_exception_with_its_frames_and_its_chain() -> None:
    def fails() -> None:
        try:
            int("key")
        except ValueError as error:
            raise LookupError("custom") from error

    error = revived(caught(fails))
    assert isinstance(error, LookupError)
    assert isinstance(error.__cause__, ValueError)
    shown = "".join(traceback.format_exception(error))
    assert 'raise LookupError("custom") from error' in shown
    assert "test_sdk_payload.py" in shown
    assert error.__traceback__ is not None
    linecache.checkcache()
    assert 'raise LookupError("custom") from error' in "".join(traceback.format_exception(error))


def test_an_exception_with_a_demanding_init() -> None:
    def fails() -> None:
        raise Needy(7, hint="again")

    error = revived(caught(fails))
    assert isinstance(error, Needy)
    assert (error.code, error.hint, str(error)) == (7, "again", "code 7")


def test_an_exception_that_cannot_be_pickled() -> None:
    def fails() -> None:
        error = ValueError("words")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    error = revived(caught(fails))
    assert isinstance(error, SerializationError)
    assert "ValueError, which cannot be pickled in the container" in str(error)
    assert "the text" in str(error)


def test_an_exception_of_a_class_that_is_not_here() -> None:
    made = remote.record(caught(lambda: 1 / 0), "the text")
    made["pickled"] = b"\x80\x05\x8c\x10nowhere_at_all_x\x8c\x05Thing\x93."
    error = remote.revive(remote.dump(made), "f")
    assert isinstance(error, DeserializationError)
    assert "nowhere_at_all_x" in str(error)
    assert "the text" in str(error)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("timeout", FunctionTimeoutError),
        ("cancelled", InputCancellation),
        ("serialization", SerializationError),
        ("deserialization", DeserializationError),
    ],
)
def test_failures_that_are_no_exceptions_of_the_users(kind: str, cls: type[BaseException]) -> None:
    error = remote.revive(remote.dump(remote.said(kind, "what happened")), "f")
    assert type(error) is cls
    assert str(error) == "what happened"


def test_a_record_that_cannot_be_read() -> None:
    assert isinstance(remote.revive(b"nonsense", "f"), InternalFailure)
    assert isinstance(remote.revive(pickle.dumps([]), "f"), InternalFailure)
