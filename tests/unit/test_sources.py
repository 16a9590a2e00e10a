"""Blobs and revision trees: what a client sends is checked before it becomes a path or a file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from zygo.errors import InvalidError
from zygo.model import SourceFile
from zygo.server import sources
from zygo.server.sources import SourceStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> SourceStore:
    return SourceStore(tmp_path, link=True, is_root=False)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(store: SourceStore, content: bytes, sha256: str | None = None) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        for i in range(0, len(content), 10):
            yield content[i : i + 10]

    name = sha256 or digest(content)
    asyncio.run(store.put(name, chunks()))
    return name


def source(path: str, content: bytes, mode: int = 0o644) -> SourceFile:
    return SourceFile(path, digest(content), len(content), mode)


def test_what_was_put_is_not_missing(store: SourceStore) -> None:
    known = put(store, b"one" * 50)
    other = digest(b"two")
    assert store.missing([known, other, other]) == [other]
    assert store.path(known).read_bytes() == b"one" * 50


def test_another_content_than_its_hash_says_is_refused_and_not_kept(store: SourceStore, tmp_path: Path) -> None:
    wanted = digest(b"good")
    with pytest.raises(InvalidError, match="has the hash"):
        put(store, b"evil", wanted)
    assert store.missing([wanted]) == [wanted]
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_an_interrupted_upload_leaves_nothing(store: SourceStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(store.put(digest(b"half and half"), broken()))
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 63 + "/", "g" * 64])
def test_what_is_no_hash_becomes_no_path(store: SourceStore, name: str) -> None:
    with pytest.raises(InvalidError):
        store.path(name)


def test_a_tree_has_each_file_at_its_place_with_its_mode(store: SourceStore) -> None:
    put(store, b"app")
    put(store, b"run")
    root = store.materialise("r-1", [source("/root/app.py", b"app"), source("/opt/x/run", b"run", 0o700)])
    assert (root / "root" / "app.py").read_bytes() == b"app"
    assert (root / "root" / "app.py").stat().st_mode & 0o777 == 0o644
    assert (root / "opt" / "x" / "run").stat().st_mode & 0o777 == 0o755
    assert (root / "opt" / "x").stat().st_mode & 0o777 == 0o755
    store.remove([root])
    assert not root.exists()


def test_a_tree_is_no_window_into_the_store(store: SourceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LINK_FROM", 10)
    small, large = put(store, b"small"), put(store, b"large enough")
    root = store.materialise("r-1", [source("/root/a", b"small"), source("/root/b", b"large enough")])
    assert (root / "root" / "a").stat().st_ino != store.path(small).stat().st_ino
    assert (root / "root" / "b").stat().st_ino == store.path(large).stat().st_ino


@pytest.mark.parametrize("path", ["", "/", "relative", "/root/../../etc/cron.d/x", "../x", "/a/../../b"])
def test_a_path_that_leaves_the_tree_is_refused(store: SourceStore, path: str, tmp_path: Path) -> None:
    put(store, b"x")
    with pytest.raises(InvalidError, match="absolute path"):
        store.materialise("r-1", [source(path, b"x")])
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("pair", [("/root/a", "/root/a/b"), ("/root/a/b", "/root/a")])
def test_a_file_where_a_directory_must_be_is_refused_and_leaves_nothing(
    store: SourceStore, pair: tuple[str, str], tmp_path: Path
) -> None:
    put(store, b"x")
    with pytest.raises(InvalidError, match="/root/a"):
        store.materialise("r-1", [source(path, b"x") for path in pair])
    assert list((tmp_path / "revisions").iterdir()) == []


def test_a_new_server_removes_the_trees_of_a_killed_one_and_keeps_its_blobs(store: SourceStore, tmp_path: Path) -> None:
    name = put(store, b"x")
    root = store.materialise("r-1", [source("/root/a", b"x")])
    again = SourceStore(tmp_path, link=True, is_root=False)
    assert not root.exists()
    assert again.missing([name]) == []


def test_only_what_nobody_asked_for_in_a_week_is_swept(store: SourceStore, tmp_path: Path) -> None:
    old, asked, fresh = put(store, b"old"), put(store, b"asked"), put(store, b"fresh")
    long_ago = time.time() - sources.KEEP_SECONDS - 60
    for name in (old, asked):
        os.utime(store.path(name), (long_ago, long_ago))
    staged = tmp_path / "blobs" / old[:2] / f".{old}.1.2"
    staged.write_bytes(b"")
    os.utime(staged, (time.time() - 7200,) * 2)
    store.missing([asked])
    store.sweep(time.time())
    assert store.missing([old, asked, fresh]) == [old]
    assert not staged.exists()
