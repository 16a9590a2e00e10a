"""Lines of an app's log: what is written is read back, what is not a line is passed over, filters mean what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zygo.errors import InvalidError
from zygo.server.log_lines import MAX_TEXT, STREAMS, Line, Wanted, cut, decode

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(st.floats(0, 4e9), TEXTS, TEXTS, st.sampled_from(STREAMS), TEXTS, TEXTS, TEXTS)
def test_a_line_is_read_back_as_it_was(
    time: float, function: str, container: str, stream: str, text: str, revision: str, call: str
) -> None:
    line = Line(time, function, container, stream, text, revision, call)
    encoded = line.encoded()
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    assert decode(encoded) == line._replace(time=round(time, 6))
    assert set(json.loads(encoded)) >= {"time", "function", "container", "stream", "text"}


def test_text_that_is_no_text_is_written_all_the_same() -> None:
    line = decode(Line(1.0, "f", "", "stderr", "a \udcff b\x00\x1b[0m").encoded())
    assert line is not None
    assert line.text == "a ? b\x00\x1b[0m"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"1", b"null", b'{"time": 1}', b'"x"', b"\xff\xfe", b'{"time":1.0,"function":"f","cont']
)
def test_what_is_not_a_line_is_none(raw: bytes) -> None:
    assert decode(raw) is None


def test_a_long_text_is_cut_and_says_so() -> None:
    assert cut("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert cut("x" * (MAX_TEXT + 1234)) == "x" * MAX_TEXT + " [1,234 more characters are left out]"


LINE = Line(100.0, "square", "c-12ab", "stdout", "Hello World")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(since=100.0), True),
        (Wanted(since=100.1), False),
        (Wanted(until=100.0), True),
        (Wanted(until=99.9), False),
        (Wanted(search="hello w"), True),
        (Wanted(search="square"), False),
        (Wanted(functions=frozenset({"cube", "square"})), True),
        (Wanted(functions=frozenset({"squ"})), False),
        (Wanted(container="c-12"), True),
        (Wanted(container="12"), False),
        (Wanted(streams=frozenset({"stdout", "system"})), True),
        (Wanted(streams=frozenset({"stderr"})), False),
        (Wanted(search="hello", streams=frozenset({"stderr"})), False),
    ],
)
def test_filters(wanted: Wanted, matches: bool) -> None:
    assert wanted.matches(LINE) is matches


def test_filters_that_cannot_be_meant() -> None:
    with pytest.raises(InvalidError, match=r"no stream 'sdtout'; there are stdout, stderr, system, request"):
        Wanted(streams=frozenset({"sdtout"}))
    with pytest.raises(InvalidError, match="ends before it begins"):
        Wanted(since=2.0, until=1.0)
