"""Real files, real events: what a save looks like to the watch, however the editor does it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from zygo.cli.watch import Watcher
from zygo.program.sources import Digests
from zygo.sdk.sources import WATCH_JUNK, WatchRoot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")
SECONDS = 5.0


@contextmanager
def watching(*roots: WatchRoot) -> Iterator[Watcher]:
    watcher = Watcher()
    watcher.arm(roots)
    try:
        yield watcher
    finally:
        watcher.close()


def run(body: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(body(), 20)

    return asyncio.run(bounded())


async def until(watcher: Watcher, path: Path) -> None:
    """Wait for an event of `path`."""
    async with asyncio.timeout(SECONDS):
        while str(path) not in await watcher.changed(SECONDS):
            pass


def write(path: Path) -> None:
    path.write_text("changed")


def replace(path: Path) -> None:
    temporary = path.with_name("whatever.new")
    temporary.write_text("replaced")
    os.replace(temporary, path)


def backup_and_recreate(path: Path) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text("recreated")


@pytest.mark.parametrize("save", [write, replace, backup_and_recreate, Path.unlink, Path.touch])
def test_each_way_of_saving_a_named_file_is_seen(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / "hello.py"
    path.write_text("")

    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), ("hello.py",))) as watcher:
            for _ in range(2):  # a replaced file has another inode; its next change must be seen as well
                path.write_text("")
                save(path)
                await until(watcher, path)

    run(body)


def test_a_file_that_does_not_exist_yet_is_seen_when_it_appears(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), (".env",))) as watcher:
            (tmp_path / ".env").write_text("A=1")
            await until(watcher, tmp_path / ".env")

    run(body)


def test_neighbours_of_a_named_file_are_of_no_interest(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), ("hello.py",))) as watcher:
            (tmp_path / "data.db").write_text("x")
            (tmp_path / "4913").write_text("x")
            (tmp_path / "hello.py").write_text("last")
            assert await watcher.changed(SECONDS) == {str(tmp_path / "hello.py")}

    run(body)


def test_junk_in_a_whole_folder_is_of_no_interest(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), recursive=True, ignore=WATCH_JUNK)) as watcher:
            (tmp_path / "__pycache__").mkdir()
            (tmp_path / "__pycache__" / "hello.cpython-311.pyc").write_text("x")
            (tmp_path / ".git").mkdir()
            (tmp_path / ".git" / "index").write_text("x")
            for name in ("4913", ".hello.py.swp", "hello.py~", ".#hello.py", ".DS_Store", "hello.pyc"):
                (tmp_path / name).write_text("x")
            (tmp_path / "last.py").write_text("x")
            found: set[str] = set()
            async with asyncio.timeout(SECONDS):
                while str(tmp_path / "last.py") not in found:
                    found |= await watcher.changed(SECONDS)
            assert found == {str(tmp_path / "last.py")}

    run(body)


def test_new_folders_below_a_recursive_root_are_watched(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), recursive=True)) as watcher:
            (tmp_path / "package").mkdir()
            await until(watcher, tmp_path / "package")
            (tmp_path / "package" / "module.py").write_text("x")
            await until(watcher, tmp_path / "package" / "module.py")

    run(body)


def test_a_burst_of_saves_is_one_change(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), recursive=True)) as watcher:
            for number in range(200):
                (tmp_path / "hello.py").write_text(str(number))
            await until(watcher, tmp_path / "hello.py")
            rounds = 1
            while await watcher.changed(0.2):
                rounds += 1
            assert rounds < 50

    run(body)


def test_rearming_follows_the_new_roots_and_drops_the_old(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()

    async def body() -> None:
        with watching(WatchRoot(str(one))) as watcher:
            assert watcher.arm([WatchRoot(str(two))])
            (one / "a").write_text("x")
            (two / "b").write_text("x")
            assert await watcher.changed(SECONDS) == {str(two / "b")}
            assert not watcher.arm([WatchRoot(str(two))])

    run(body)


def test_a_folder_that_is_replaced_whole_is_noticed_and_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    async def body() -> None:
        root = WatchRoot(str(folder), ("hello.py",))
        with watching(root) as watcher:
            assert not watcher.moved()
            shutil.move(folder, tmp_path / "old")
            assert watcher.moved()
            folder.mkdir()
            assert watcher.moved()
            watcher.arm([root])
            assert not watcher.moved()
            watcher.take()
            (folder / "hello.py").write_text("x")
            await until(watcher, folder / "hello.py")

    run(body)


def test_a_missing_root_is_no_error_and_is_noticed_when_it_appears(tmp_path: Path) -> None:
    folder = tmp_path / "later"

    async def body() -> None:
        with watching(WatchRoot(str(folder))) as watcher:
            assert not watcher.moved()
            folder.mkdir()
            assert watcher.moved()
            assert not watcher.deaf

    run(body)


def test_closing_ends_every_thread(tmp_path: Path) -> None:
    async def body() -> None:
        with watching(WatchRoot(str(tmp_path), recursive=True), WatchRoot(str(tmp_path))) as watcher:
            assert any(thread.name == "watch" for thread in threading.enumerate())
        watcher.close()
        assert not any(thread.name == "watch" for thread in threading.enumerate())

    run(body)


def test_without_events_the_watch_says_so(tmp_path: Path) -> None:
    # In a process of its own: the limit of open files would hurt this one.
    code = f"""
import asyncio, resource
from zygo.cli.watch import Watcher, RECONCILE_SECONDS_WITHOUT_EVENTS
from zygo.sdk.sources import WatchRoot
async def body():
    watcher = Watcher()
    import os
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, max(held) + 1))
    watcher.arm([WatchRoot({str(tmp_path)!r})])
    assert watcher.deaf
    assert watcher.reconcile_seconds == RECONCILE_SECONDS_WITHOUT_EVENTS
    watcher.close()
asyncio.run(body())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_digests_see_a_change_that_leaves_size_and_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text("aaaa")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    digests = Digests()
    before = digests.look(str(path))
    path.write_text("bbbb")
    os.utime(path, ns=times)
    assert digests.look(str(path)) != before


def test_digests_of_what_is_no_file(tmp_path: Path) -> None:
    digests = Digests()
    assert digests.look(str(tmp_path / "absent")) == ""
    assert digests.look(str(tmp_path)) == ""
    path = tmp_path / "hello.py"
    path.write_text("x")
    assert digests.look(str(path))
    path.unlink()
    assert digests.look(str(path)) == ""
