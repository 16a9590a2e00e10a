"""The thread that writes logs, on real files: rotation, load, a disk that is full, files that are removed, a crash's rest."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from zygo.server import log_writer
from zygo.server.app_logs import AppLogs
from zygo.server.log_lines import Line, Wanted, decode
from zygo.server.log_reader import all_lines
from zygo.server.log_writer import NAMES, LogWriter, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def line(text: str) -> bytes:
    return Line(1.0, "f", "c", "stdout", text).encoded()


def read(writer: LogWriter, folder: Path) -> list[str]:
    """Every text, once everything so far is written."""
    snapshot: Snapshot = writer.snapshot(folder).result(30)
    try:
        found = [decode(raw) for portion in all_lines(snapshot, Wanted()) for raw in portion]
    finally:
        snapshot.close()
    return [each.text for each in found if each is not None]


def test_rotation_keeps_the_newest_lines_in_three_files_of_the_size(tmp_path: Path) -> None:
    writer, folder = LogWriter(5000), tmp_path / "deep" / "app"
    for start in range(0, 1000, 37):
        writer.write(folder, [line(f"{i}") for i in range(start, min(start + 37, 1000))])
    texts = read(writer, folder)
    assert texts == [f"{i}" for i in range(1000 - len(texts), 1000)]
    assert len(texts) > 100
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert all(path.stat().st_size <= 5000 and path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    writer.write(folder, [line("x" * 9000), line("after")])
    assert read(writer, folder)[-2:] == ["x" * 9000, "after"], "a line larger than a file has one of its own"
    assert writer.close()
    assert writer.close()


def test_a_full_disk_is_told_once_and_the_lost_lines_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer, folder = LogWriter(2**20), tmp_path / "app"
    folder.mkdir()
    (folder / NAMES[0]).symlink_to("/dev/full")
    for i in range(5):
        writer.write(folder, [line(f"{i}"), line("more")])
    assert read(writer, folder) == []
    assert [r.message for r in caplog.records if "cannot be written" in r.message] == [
        f"the log in {folder} cannot be written, lines are lost until it can: [Errno 28] No space left on device"
    ]
    (folder / NAMES[0]).unlink()
    writer.write(folder, [line("again")])
    writer.write(folder, [line("and again")])
    assert read(writer, folder) == [
        "10 lines before this one were not kept: the disk was full or did not keep up",
        "again",
        "and again",
    ]
    writer.close()


def test_a_disk_that_fails_between_two_files_loses_only_what_it_did_not_take(tmp_path: Path) -> None:
    writer, folder = LogWriter(4096), tmp_path / "app"
    writer.write(folder, [line("first")])
    assert read(writer, folder) == ["first"]
    (folder / NAMES[1]).touch()
    (folder / NAMES[2]).mkdir()  # no file can take the place of a directory, so the rotation fails
    writer.write(folder, [line("y" * 3000), line("z" * 3000), line("lost")])
    assert read(writer, folder) == ["first", "y" * 3000]
    (folder / NAMES[2]).rmdir()
    writer.write(folder, [line("again")])
    assert read(writer, folder)[-2:] == [
        "2 lines before this one were not kept: the disk was full or did not keep up",
        "again",
    ]
    writer.close()


def test_files_that_somebody_removed_come_again(tmp_path: Path) -> None:
    writer, folder = LogWriter(2**20), tmp_path / "app"
    writer.write(folder, [line("one")])
    assert read(writer, folder) == ["one"]
    (folder / NAMES[0]).unlink()
    folder.rmdir()
    writer.write(folder, [line("two")])
    assert read(writer, folder) == ["two"]
    writer.forget(folder)
    writer.write(folder, [line("three")])
    assert read(writer, folder) == ["two", "three"]
    writer.close()


def test_half_a_line_that_a_crash_left_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(line("whole") + line("half")[:30])
    writer = LogWriter(2**20)
    writer.write(tmp_path, [line("next")])
    assert read(writer, tmp_path) == ["whole", "next"]
    writer.close()


def test_a_disk_that_hangs_costs_lines_and_never_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_WAITING_BYTES", 100_000)
    go_on = threading.Event()
    writer = LogWriter(2**20)

    def hang() -> None:
        go_on.wait(600)  # longer than any test may take

    writer._jobs.put(hang)
    for _ in range(100):
        writer.write(tmp_path, [line("x" * 2000)])
    assert not writer.close(0.01)
    go_on.set()
    writer._thread.join(30)
    again = LogWriter(2**20)
    kept = read(again, tmp_path)
    again.close()
    assert 40 <= kept.count("x" * 2000) <= 50


def test_the_loop_is_not_held_up_by_a_flood_or_by_readers(tmp_path: Path) -> None:
    """Lines as fast as they come into one log, a search through all of it meanwhile: turns of the loop stay short."""

    async def run() -> float:
        logs = AppLogs(tmp_path, 2**20)
        log = logs.open("a", ephemeral=False)
        delays: list[float] = []
        loop = asyncio.get_running_loop()
        written = 0

        async def search() -> None:
            snapshot = await logs.snapshot(log.key)
            portions = all_lines(snapshot, Wanted(search="never"))
            while await asyncio.to_thread(next, portions, None) is not None:
                pass
            snapshot.close()

        searches = [asyncio.create_task(search())]
        while written < 50_000 or len(searches) < 2:
            for _ in range(100):
                log.write("f", "stdout", "a line as programs print them, of the usual length", container="c-1")
            written += 100
            before = loop.time()
            await asyncio.sleep(0.001)
            delays.append(loop.time() - before - 0.001)
            if searches[-1].done():
                searches.append(asyncio.create_task(search()))
        await asyncio.gather(*searches)
        log.close()
        await logs.close()
        delays.sort()
        return delays[len(delays) // 2]

    # Milliseconds; only a loop that waits for the disk or the search comes near.
    assert asyncio.run(run()) < 1
