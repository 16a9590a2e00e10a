"""The ports that functions keep from run to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from zygo.server.ports import FIRST, LAST, PortBook

if TYPE_CHECKING:
    from pathlib import Path


def test_a_name_gets_the_same_port_first_every_time(tmp_path: Path) -> None:
    one, two = PortBook(tmp_path / "p.json"), PortBook(tmp_path / "p.json")
    assert one.candidates("a") == two.candidates("a")
    assert one.candidates("a")[0] != one.candidates("b")[0]
    assert one.candidates("a")[0] != PortBook(tmp_path / "other" / "p.json").candidates("a")[0]
    assert all(FIRST <= port <= LAST for port in one.candidates("a"))
    assert len(set(one.candidates("a"))) == len(one.candidates("a"))


def test_what_was_remembered_is_tried_first_by_the_next_server(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "p.json")
    assert not book.has("a")
    book.remember("a", 21234)
    again = PortBook(tmp_path / "p.json")
    assert again.has("a")
    assert again.candidates("a")[0] == 21234


def test_nobody_is_offered_the_port_of_another(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "p.json")
    wanted = book.candidates("a")[0]
    book.remember("b", wanted)
    assert wanted not in book.candidates("a")


def test_the_last_ports_wrap_round(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "p.json")
    near_the_end = next(f"n{i}" for i in range(100_000) if book.candidates(f"n{i}")[0] > LAST - 50)
    found = book.candidates(near_the_end)
    assert max(found) <= LAST
    assert FIRST in found


def test_a_file_that_is_broken_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for text in ("", "[]", "{", '{"a": "x"}', '{"a": null}', "null"):
        path.write_text(text)
        book = PortBook(path)
        assert not book.has("a")
        book.remember("a", 20001)
        assert json.loads(path.read_text()) == {"a": 20001}
        path.unlink()


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "p.json")
    for port in range(20000, 20010):
        book.remember("a", port)
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
