"""Folders: a clone does not write to its source, everybody can read the result, publishing keeps what is there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zygo.builder import folders


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_clone_shares_files_and_keeps_symbolic_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "tool").write_text("x")
    (source / "bin" / "python").symlink_to("/nowhere/python3")
    folders.clone(source, tmp_path / "clone")
    assert (tmp_path / "clone" / "bin" / "tool").samefile(source / "bin" / "tool")
    assert (tmp_path / "clone" / "bin" / "python").readlink() == Path("/nowhere/python3")


def test_added_files_do_not_change_what_they_replace(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_text("new")
    (tmp_path / "parent" / "root").mkdir(parents=True)
    old = tmp_path / "parent" / "root" / "data.txt"
    old.write_text("old")
    folders.clone(tmp_path / "parent", tmp_path / "child")
    folders.add_files(tmp_path / "child", [("/root/data.txt", "x", 0o750)], lambda _: blob)
    assert old.read_text() == "old"
    assert (tmp_path / "child" / "root" / "data.txt").read_text() == "new"
    assert mode(tmp_path / "child" / "root" / "data.txt") == 0o754


def test_hidden_files_are_opened_and_the_names_outside_left_alone(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_text("x")
    cached.chmod(0o600)
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    os.link(cached, tree / "inner" / "linked")
    (tree / "inner" / "program").write_text("x")
    (tree / "inner" / "program").chmod(0o700)
    (tree / "inner").chmod(0o700)
    folders.open_to_all(tree)
    assert mode(tree / "inner") == 0o755
    assert mode(tree / "inner" / "linked") == 0o644
    assert mode(tree / "inner" / "program") == 0o755
    assert mode(cached) == 0o600


def test_folders_are_made_for_all_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folders.ensure(tmp_path / "a" / "b")
        made = folders.staging(tmp_path / "a" / "staging")
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b"), mode(made)] == [0o755] * 3


def test_distributions_are_named_as_indexes_name_them(tmp_path: Path) -> None:
    for name in ("Typing_Extensions-4.1.0.dist-info", "zope.interface-6.0.dist-info", "six"):
        (tmp_path / name).mkdir()
    assert folders.distributions(tmp_path) == {"typing-extensions": "4.1.0", "zope-interface": "6.0"}


def test_what_is_published_first_stays(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "content").write_text(number)
        folders.publish(tmp_path / number, tmp_path / "images" / "x")
    assert (tmp_path / "images" / "x" / "content").read_text() == "1"
