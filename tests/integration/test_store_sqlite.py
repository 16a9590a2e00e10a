"""Faults of the SQLite store, on real files: a full disk, a lock that another process holds, a file that is damaged."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from store_kit import BY, fact_names, opened, put_fact, spec, with_store, write
from zygo.errors import StoreError
from zygo.settings import Settings
from zygo.store.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from zygo.store.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


async def open_and_close(settings: Settings) -> None:
    async with opened(settings, patience=0.3):
        pass


def test_only_the_owner_can_read_its_files(settings: Settings) -> None:
    async def use(store: Store) -> None:
        await write(store, put_fact("a"))
        await fact_names(store)
        modes = {path.name: path.stat().st_mode & 0o777 for path in settings.data_dir.iterdir()}
        assert modes == dict.fromkeys(["zygo.db", "zygo.db-wal", "zygo.db-shm", "store.key"], 0o600)

    mask = os.umask(0)
    try:
        with_store(settings, use)
        (settings.data_dir / "zygo.db").chmod(0o644)
        asyncio.run(open_and_close(settings))
        assert (settings.data_dir / "zygo.db").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(mask)


def test_it_is_as_durable_as_said(settings: Settings) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")

    def ask(connection: sa.Connection) -> dict[str, object]:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    async def use(store: Store) -> None:
        values = await write(store, ask)
        assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}

    with_store(settings, use)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system of its own of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "zygo-test", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_writes_fail_and_go_on_when_there_is_room(small_disk: Path) -> None:
    settings = Settings(data_dir=small_disk / "data")
    large = dataclasses.replace(spec(), warnings=("x" * 100_000,))

    async def fill(store: Store) -> int:
        said = ""
        for number in range(100):
            try:
                await store.add_revision("hello", f"d{number}", large, BY, 1.0)
            except StoreError as error:
                said = str(error)
                break
        assert f"{settings.data_dir / 'zygo.db'} cannot be written: the disk is full" in said
        return number

    async def use(store: Store) -> str:
        (small_disk / "room").write_bytes(bytes(300_000))
        count = await fill(store)
        app = await store.app("hello")
        assert app is not None
        assert app.version == count
        assert len(await store.revisions(app.id)) == count
        # Together with a neighbour that needs more than there is, each for itself.
        both = [store.add_revision("hello", "large", large, BY, 2.0), store.prune(app.id, count)]
        refused, pruned = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(refused, StoreError)
        assert pruned == []
        (small_disk / "room").unlink()
        assert (await store.add_revision("hello", "d", large, BY, 3.0)).version == count + 1
        return app.id

    app_id = with_store(settings, use)
    assert with_store(settings, lambda store: store.spec(app_id, 1)) == large


def test_a_lock_of_another_process_is_waited_for_and_then_named(settings: Settings) -> None:
    path = settings.data_dir / "zygo.db"

    async def use(store: Store) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            writes = [write(store, put_fact(f"fact {number}")) for number in range(400)]
            ticks: list[float] = []
            ticking = asyncio.ensure_future(tick(ticks))
            done = await asyncio.gather(*writes, return_exceptions=True)
            took = time.monotonic() - began
            ticking.cancel()
            # The first alone, then those that have queued up: twice the time that one waits, and not 400 times.
            assert 0.3 <= took < 60
            assert len(ticks) > 3, "the loop stood still"
            for error in done:
                assert isinstance(error, StoreError)
                assert f"{path} is locked by another process" in str(error)
            # Reading goes on.
            assert await fact_names(store) == set()
            threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
            assert await write(store, put_fact("patience")) == "patience"

    with_store(settings, use, patience=0.3)


async def tick(ticks: list[float]) -> None:
    """Note the time again and again, for as long as the loop runs."""
    while True:
        await asyncio.sleep(0.01)
        ticks.append(time.monotonic())


def test_a_file_that_is_no_database_is_refused_and_left_alone(settings: Settings) -> None:
    settings.data_dir.mkdir()
    path = settings.data_dir / "zygo.db"
    path.write_bytes(b"not a database, " * 1000)
    with pytest.raises(StoreError, match=f"{path} is damaged, or not a SQLite database .*backup"):
        asyncio.run(open_and_close(settings))
    assert path.read_bytes() == b"not a database, " * 1000


def test_a_damaged_database_is_said(settings: Settings) -> None:
    async def fill(store: Store) -> str:
        for number in range(50):
            app_id = (await store.add_revision("hello", f"d{number}", spec(), BY, 1.0)).app_id
        return app_id

    app_id = with_store(settings, fill)
    path = settings.data_dir / "zygo.db"
    with path.open("r+b") as file:
        # All but the page with the schema.
        file.seek(4096 * 6)
        file.write(b"\xff" * (path.stat().st_size - 4096 * 6))

    async def read(store: Store) -> None:
        await store.revisions(app_id)
        await store.kept_specs()

    with pytest.raises(StoreError, match=f"{path} is damaged"):
        with_store(settings, read)


def test_a_place_that_cannot_be_written_is_named(settings: Settings) -> None:
    path = settings.data_dir / "zygo.db"
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=f"{path} cannot be opened for writing"):
        asyncio.run(open_and_close(settings))


def test_two_that_make_the_key_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = tmp_path / f"key{number}"
            vaults = list(pool.map(lambda _: Vault.open(path, None), range(8)))  # noqa: B023
            assert len({vault.fingerprint for vault in vaults}) == 1
            assert vaults[0].unseal(vaults[1].seal("text")) == "text"
    assert {path.name for path in tmp_path.iterdir()} == {f"key{number}" for number in range(20)}


def test_what_was_sealed_and_changed_is_refused(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path / "key", None)
    sealed = vault.seal("text")
    with pytest.raises(StoreError, match="cannot be opened with the key in"):
        vault.unseal(sealed[:-5] + "AAAA=")


def test_two_servers_may_migrate_at_the_same_time(settings: Settings) -> None:
    async def life() -> None:
        await asyncio.gather(*(open_and_close(settings) for _ in range(4)))

    asyncio.run(life())
