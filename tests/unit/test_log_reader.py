"""Reading rotated files from both ends gives what reading everything would, whatever the sizes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zygo.server.log_lines import Line, Wanted
from zygo.server.log_reader import CLOCK_SLACK, all_lines, last_lines
from zygo.server.log_writer import NAMES, open_snapshot

TEXTS = st.one_of(st.text(st.sampled_from("abé\n\u2028 "), max_size=12), st.sampled_from(["x" * 90, ""]))


def lay_out(folder: Path, files: list[list[str]], torn: bool = False) -> list[Line]:
    """Write `files`, oldest first; every line in order. With `torn` each file has rubbish in it too."""
    lines: list[Line] = []
    for name, texts in zip(NAMES[len(files) - 1 :: -1], files, strict=True):
        data = b'{"time": 1, "fun\n\n' if torn else b""
        for text in texts:
            line = Line(float(len(lines)), "even" if len(lines) % 2 == 0 else "odd", "", "stdout", text)
            lines.append(line)
            data += line.encoded()
        (folder / name).write_bytes(data + (b'{"time": 9' if torn else b""))
    return lines


@settings(deadline=None)  # it writes files
@given(
    st.lists(st.lists(TEXTS, max_size=12), min_size=1, max_size=3),
    st.integers(0, 40),
    st.integers(1, 200),
    st.booleans(),
    st.sampled_from([Wanted(), Wanted(search="a"), Wanted(functions=frozenset({"odd"}))]),
)
def test_the_last_lines_and_all_lines(
    files: list[list[str]], count: int, block: int, torn: bool, wanted: Wanted
) -> None:
    with tempfile.TemporaryDirectory() as name:
        lines = lay_out(Path(name), files, torn)
        expected = [line.encoded() for line in lines if wanted.matches(line)]
        snapshot = open_snapshot(Path(name))
        try:
            assert [raw for portion in all_lines(snapshot, wanted, block) for raw in portion] == expected
            assert last_lines(snapshot, wanted, count, block) == (expected[-count:] if count else [])
        finally:
            snapshot.close()


def test_a_range_stops_at_lines_that_are_older(tmp_path: Path) -> None:
    now = float(int(time.time()))
    old = [Line(now - 1000 + i, "f", "", "stdout", f"old {i}").encoded() for i in range(5)]
    new = [Line(now - 10 + i, "f", "", "stdout", f"new {i}").encoded() for i in range(5)]
    (tmp_path / NAMES[1]).write_bytes(b"".join(old))
    (tmp_path / NAMES[0]).write_bytes(b"".join(new))
    os.utime(tmp_path / NAMES[1], (now - 990, now - 990))
    snapshot = open_snapshot(tmp_path)
    wanted = Wanted(since=now - CLOCK_SLACK, until=now - 7)
    assert last_lines(snapshot, wanted, 100) == new[:4]
    assert last_lines(snapshot, wanted, 2) == new[2:4]
    assert [raw for portion in all_lines(snapshot, wanted) for raw in portion] == new[:4]
    everything = Wanted(since=now - 1000.5)
    assert [raw for portion in all_lines(snapshot, everything) for raw in portion] == old + new
    snapshot.close()


def test_a_snapshot_is_the_files_of_its_moment(tmp_path: Path) -> None:
    first = lay_out(tmp_path, [["one", "two"]])
    snapshot = open_snapshot(tmp_path)
    os.rename(tmp_path / NAMES[0], tmp_path / NAMES[1])
    with open(tmp_path / NAMES[1], "ab") as file:
        file.write(Line(9.0, "f", "", "stdout", "later").encoded())
    lay_out(tmp_path, [["three"]])
    assert last_lines(snapshot, Wanted(), 10) == [line.encoded() for line in first]
    snapshot.close()
    snapshot.close()
    with pytest.raises(OSError, match="the snapshot is closed"):
        last_lines(snapshot, Wanted(), 10)


def test_no_files_are_no_lines(tmp_path: Path) -> None:
    snapshot = open_snapshot(tmp_path / "nothing")
    assert last_lines(snapshot, Wanted(), 10) == []
    assert list(all_lines(snapshot, Wanted())) == []
    snapshot.close()
