"""Faults of the PostgreSQL store, on a real server: restarted in the middle, cut off at the worst moment, used by two."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from store_kit import BY, fact_names, opened, put_fact, spec, with_store, write
from zygo.errors import InvalidError, StoreError
from zygo.settings import Settings
from zygo.store.postgres import Postgres
from zygo.store.tables import facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from postgres_kit import Cluster
    from zygo.store.store import Store

PASSWORD = "open-sesame"


@pytest.fixture
def settings(tmp_path: Path, postgres: Cluster) -> Settings:
    return Settings(data_dir=tmp_path, database_url=postgres.create_database())


def count_up(connection: sa.Connection) -> int:
    """A change that shows when it was made twice."""
    found = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "count"))
    if found is None:
        connection.execute(sa.insert(facts).values(name="count", value="1"))
        return 1
    value = int(found) + 1
    connection.execute(sa.update(facts).where(facts.c.name == "count").values(value=str(value)))
    return value


def counted(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(facts.c.value).where(facts.c.name == "count")) or 0)


# A server that goes away


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_restart_is_waited_for_and_nothing_is_lost_or_done_twice(
    settings: Settings, postgres: Cluster, how: int
) -> None:
    async def work(store: Store, worker: int, stop: asyncio.Event, done: asyncio.Queue[str]) -> None:
        number = 0
        while not stop.is_set():
            name = f"{worker}-{number}"
            await write(store, put_fact(name))
            await write(store, count_up)
            done.put_nowait(name)
            assert name in await fact_names(store)
            number += 1

    async def use(store: Store) -> None:
        stop, done, names = asyncio.Event(), asyncio.Queue[str](), set[str]()
        workers = [asyncio.create_task(work(store, worker, stop, done)) for worker in range(8)]
        for _ in range(2):
            names |= {await done.get() for _ in range(50)}
            await asyncio.to_thread(postgres.stop, how)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(postgres.start_again)
        names |= {await done.get() for _ in range(50)}
        stop.set()
        await asyncio.gather(*workers)
        names |= {done.get_nowait() for _ in range(done.qsize())}
        assert await fact_names(store) == {*names, "count"}
        assert await store._reader.run(counted) == len(names)

    with_store(settings, use)


def test_one_that_stays_away_fails_every_caller_in_time(settings: Settings, postgres: Cluster) -> None:
    async def use(store: Store) -> None:
        await write(store, put_fact("before"))
        await asyncio.to_thread(postgres.stop)
        try:
            began = time.monotonic()
            writes = [write(store, put_fact(f"fact {number}")) for number in range(20)]
            *failed, read = await asyncio.gather(*writes, fact_names(store), return_exceptions=True)
            assert time.monotonic() - began >= 0.5
            for error in [*failed, read]:
                assert isinstance(error, StoreError)
                assert "Check that PostgreSQL runs" in str(error)
                assert PASSWORD not in str(error)
        finally:
            await asyncio.to_thread(postgres.start_again)
        assert await write(store, put_fact("after")) == "after"
        assert await fact_names(store) == {"before", "after"}

    with_store(settings, use, patience=0.5)


def test_an_outage_is_waited_for_once(settings: Settings, postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked while it is known to be away, and was waited for, is tried once and refused."""
    tries: list[str] = []
    for kind in ("connect_reader", "connect_writer"):
        connect = getattr(Postgres, kind)

        def counted(self: Postgres, kind: str = kind, connect: Any = connect) -> Any:
            tries.append(kind)
            return connect(self)

        monkeypatch.setattr(Postgres, kind, counted)

    async def use(store: Store) -> None:
        await write(store, put_fact("before"))
        await fact_names(store)
        await asyncio.to_thread(postgres.stop)
        try:
            with pytest.raises(StoreError, match=r"away for \d+ s, and is waited for 0.5 s once"):
                await fact_names(store)
            assert len(tries) > 2, "it was tried again and again"
            tries.clear()
            # A connection that it does not yet know to be lost is one more try.
            with pytest.raises(StoreError, match="away for"):
                await write(store, put_fact("meanwhile"))
            for _ in range(3):
                with pytest.raises(StoreError, match="away for"):
                    await fact_names(store)
            assert tries == ["connect_reader"] * 3
        finally:
            await asyncio.to_thread(postgres.start_again)
        assert await fact_names(store) == {"before"}
        assert await write(store, put_fact("after")) == "after"
        assert await fact_names(store) == {"before", "after"}

    with_store(settings, use, patience=0.5)


class Wire:
    """Between the store and PostgreSQL: passes everything on, until `cut` is armed and a COMMIT comes by."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self.target = str(target / ".s.PGSQL.5432")
        self.cuts = 0
        self._cut = ""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, when: str) -> None:
        """At the next COMMIT: `before` it reaches the server, or `after` the server has answered."""
        self._cut = when

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._pass, args=(client,)))
                self._threads[-1].start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self.target)
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client and self._cut and b"COMMIT" in data:
                        when, self._cut = self._cut, ""
                        self.cuts += 1
                        if when == "after":
                            server.sendall(data)
                            assert server.recv(65536)
                        return
                    (server if end is client else client).sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def wire(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    wire = Wire(tmp_path_factory.mktemp("wire"), postgres.folder)
    yield wire
    wire.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_without_an_answer_is_made_exactly_once(
    tmp_path: Path, postgres: Cluster, wire: Wire, when: str
) -> None:
    url = postgres.create_database().replace(str(postgres.folder), str(wire.folder))
    ran = []

    def change(connection: sa.Connection) -> int:
        ran.append(1)
        return count_up(connection)

    async def use(store: Store) -> None:
        for number in range(1, 6):
            wire.cut(when)
            assert await write(store, change) == number
            assert await store._reader.run(counted) == number
        assert wire.cuts == 5
        assert len(ran) == (10 if when == "before" else 5)

    with_store(Settings(data_dir=tmp_path, database_url=url), use)


def test_a_commit_whose_outcome_stays_unknown_is_said_to_be(tmp_path: Path, postgres: Cluster, wire: Wire) -> None:
    url = postgres.create_database().replace(str(postgres.folder), str(wire.folder))

    async def use(store: Store) -> None:
        wire.target += "-away"
        wire.cut("after")
        with pytest.raises(StoreError, match=r"Whether this change was made is not known"):
            await write(store, count_up)
        wire.target = wire.target.removesuffix("-away")

    with_store(Settings(data_dir=tmp_path, database_url=url), use, patience=0.5)


def test_a_stale_lock_in_the_database_is_waited_for_and_then_named(settings: Settings, postgres: Cluster) -> None:
    import psycopg

    async def use(store: Store) -> None:
        with psycopg.connect(settings.database_url) as other:
            other.execute("LOCK TABLE facts")
            began = time.monotonic()
            writes = [write(store, put_fact(f"fact {number}")) for number in range(400)]
            for error in await asyncio.gather(*writes, return_exceptions=True):
                assert isinstance(error, StoreError)
                assert "is locked by another program" in str(error)
            assert time.monotonic() - began < 60  # together, not one after the other: that would be 120 s
        assert await write(store, put_fact("a")) == "a"

    with_store(settings, use, patience=0.3)


# One server at a time


def test_a_second_server_is_refused_while_the_first_runs(settings: Settings, tmp_path: Path) -> None:
    second = settings.replace(data_dir=tmp_path / "second")

    async def life() -> None:
        async with opened(settings) as store:
            with pytest.raises(StoreError, match=r"Another zygo server uses postgresql://zygo:.*@/test") as caught:
                await open_and_close(second)
            assert PASSWORD not in str(caught.value)
            await write(store, put_fact("a"))
        # Nothing was made for the one that was refused.
        assert not second.data_dir.exists()
        await open_and_close(settings)

    asyncio.run(life())


def test_the_lock_is_taken_again_after_a_restart(settings: Settings, postgres: Cluster) -> None:
    async def life() -> None:
        async with opened(settings) as store:
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start_again)
            await write(store, put_fact("a"))
            with pytest.raises(StoreError, match="Another zygo server uses"):
                await open_and_close(settings)

    asyncio.run(life())


def test_a_server_that_was_overtaken_cannot_write(settings: Settings, postgres: Cluster) -> None:
    async def life() -> None:
        async with opened(settings, patience=0.5) as store:
            await asyncio.to_thread(postgres.stop)
            await asyncio.to_thread(postgres.start_again)
            async with opened(settings) as other:
                with pytest.raises(StoreError, match="Another zygo server uses"):
                    await write(store, put_fact("of the first"))
                await write(other, put_fact("of the second"))
            assert await write(store, put_fact("again of the first")) == "again of the first"
            assert await fact_names(store) == {"of the second", "again of the first"}

    asyncio.run(life())


def test_databases_of_one_server_are_apart(settings: Settings, postgres: Cluster, tmp_path: Path) -> None:
    other = Settings(data_dir=tmp_path / "other", database_url=postgres.create_database())

    async def life() -> None:
        async with opened(settings), opened(other):
            pass

    (tmp_path / "other").mkdir()
    asyncio.run(life())


async def open_and_close(settings: Settings) -> None:
    async with opened(settings):
        pass


# URLs


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense open-sesame", "ZYGO_DATABASE_URL is not a URL"),
        ("mysql://a:open-sesame@h/d", "mysql is not supported"),
        ("open-sesame://h/d", "ZYGO_DATABASE_URL is not a URL"),
        ("postgresql://a:open-sesame@h:port/d", "ZYGO_DATABASE_URL is not a URL"),
        ("postgresql://a:xx@open-sesame@h/d", "more than one `@`"),
        ("postgresql://a:open-sesame@h", "names no database"),
        ("postgresql://a:open-sesame@/d?host=/nowhere", "postgresql://a:.*@/d cannot be reached"),
        ("postgres://a@/d?host=/nowhere&password=open-sesame", "postgresql://a@/d cannot be reached"),
        ("postgresql://a@/d?host=/nowhere&option_that_is_none=open-sesame", "cannot be reached"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_without_its_password(tmp_path: Path, url: str, said: str) -> None:
    settings = Settings(data_dir=tmp_path, database_url=url)
    with pytest.raises((InvalidError, StoreError), match=said) as caught:
        asyncio.run(open_and_close(settings))
    shown = [f"{caught.value} {caught.value!r}", repr(settings), str(settings)]
    assert PASSWORD not in " ".join(shown)


def test_it_says_what_to_install_without_the_driver(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('no', name='psycopg')")
    program = (
        "import asyncio, sys, zygo.settings, zygo.store.store as s\n"
        "from pathlib import Path\n"
        "asyncio.run(s.Store.open(zygo.settings.Settings(data_dir=Path(sys.argv[1]), database_url='postgresql:///d')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert "pip install 'zygo[postgres]'" in done.stderr.splitlines()[-1]


def test_asynchronous_commit_is_not_taken_over(settings: Settings, postgres: Cluster) -> None:
    name = settings.database_url.partition("@/")[2].partition("?")[0]

    def show(connection: sa.Connection) -> str:
        return str(connection.scalar(sa.text("SHOW synchronous_commit")))

    for theirs, ours in (("off", "on"), ("remote_apply", "remote_apply")):
        postgres.sql(f"ALTER DATABASE {name} SET synchronous_commit = '{theirs}'")
        assert with_store(settings, lambda store: write(store, show)) == ours


def test_many_revisions(settings: Settings) -> None:
    async def use(store: Store) -> None:
        made = await asyncio.gather(*(store.add_revision("hello", f"d{n}", spec(), BY, 1.0) for n in range(200)))
        assert sorted(each.version for each in made) == list(range(1, 201))

    with_store(settings, use)
