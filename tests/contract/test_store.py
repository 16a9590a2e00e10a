"""What the store promises, on SQLite and on PostgreSQL. Faults of each are in tests/integration/test_store_*.py."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from store_kit import BY, SECRET, everything, fact_names, opened, put_fact, spec, with_store, write
from zygo.errors import AlreadyExistsError, ConflictError, NotFoundError, StoreError
from zygo.model import (
    AppRecord,
    AppState,
    EnvironmentRecord,
    ImageSpec,
    ImageStep,
    ProxyToken,
    RevisionRecord,
    SecretRecord,
)
from zygo.settings import Settings
from zygo.store.database import PATIENCE, database_for
from zygo.store.migrate import FOLDER
from zygo.store.schema import HEAD, VERSION_TABLE
from zygo.store.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an empty data directory, and for PostgreSQL a database of its own."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path / "data")
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", database_url=request.getfixturevalue("postgres").create_database())


def test_a_deployed_app_and_its_revisions(settings: Settings) -> None:
    async def use(store: Store) -> None:
        assert await store.app("hello") is None
        assert await store.apps() == []
        first = await store.add_revision("hello", "d1", spec(number=1), BY, 100.5)
        again = dataclasses.replace(BY, rollback_of=1, dirty=False, tag="")
        second = await store.add_revision("hello", "d2", spec(number=2), again, 200.25)
        assert first.app_id.startswith("ap-")
        assert first == RevisionRecord(first.app_id, 1, "d1", 100.5, BY)
        assert second == RevisionRecord(first.app_id, 2, "d2", 200.25, again)
        app = AppRecord(first.app_id, "hello", AppState.DEPLOYED, 100.5, 2)
        assert await store.app("hello") == app
        other = await store.add_revision("another", "d3", spec("another"), BY, 300.0)
        assert [found.name for found in await store.apps()] == ["another", "hello"]
        assert await store.revisions(app.id) == [second, first]
        assert await store.revisions("ap-nobody") == []
        assert await store.revision(app.id, 1) == first
        assert await store.revision(other.app_id, 1) == other

    with_store(settings, use)


def test_what_was_deployed_comes_back_as_it_was(settings: Settings) -> None:
    async def deploy(store: Store) -> str:
        return (await store.add_revision("hello", "d", spec(), BY, 1.0)).app_id

    app_id = with_store(settings, deploy)
    assert with_store(settings, lambda store: store.spec(app_id, 1)) == spec()


def test_what_is_not_there_is_said(settings: Settings) -> None:
    async def use(store: Store) -> None:
        revision = await store.add_revision("hello", "d", spec(), BY, 1.0)
        for asked in (store.spec, store.revision):
            with pytest.raises(NotFoundError, match=f"{revision.app_id} has no version 7"):
                await asked(revision.app_id, 7)
        with pytest.raises(NotFoundError, match="no app ap-nobody"):
            await store.stop_app("ap-nobody", 2.0)
        assert await store.prune("ap-nobody", 1) == []

    with_store(settings, use)


def test_of_two_deploys_with_the_same_expectation_one_is_refused(settings: Settings) -> None:
    async def use(store: Store) -> None:
        for expected in (0, 1):
            deploys = [store.add_revision("hello", f"d{i}", spec(), BY, 1.0, expected) for i in range(5)]
            done = await asyncio.gather(*deploys, return_exceptions=True)
            assert sorted(type(each).__name__ for each in done) == ["ConflictError"] * 4 + ["RevisionRecord"]
        app = await store.app("hello")
        assert app is not None
        assert app.version == 2
        assert len(await store.revisions(app.id)) == 2
        with pytest.raises(
            ConflictError, match=r"'hello' was changed meanwhile: version 7 was active .* now version 2 is"
        ):
            await store.add_revision("hello", "d", spec(), BY, 1.0, expected_version=7)
        with pytest.raises(ConflictError, match="it is no longer deployed"):
            await store.add_revision("gone", "d", spec("gone"), BY, 1.0, expected_version=1)

    with_store(settings, use)


def test_a_stopped_app_is_history(settings: Settings) -> None:
    async def use(store: Store) -> None:
        app_id = (await store.add_revision("hello", "d", spec(), BY, 1.0)).app_id
        stopped = await store.stop_app(app_id, 2.0)
        assert stopped == AppRecord(app_id, "hello", AppState.STOPPED, 1.0, 1, 2.0)
        assert await store.stop_app(app_id, 3.0) == stopped
        assert await store.app("hello") is None
        assert await store.apps() == []
        assert [(each.version, each.kept) for each in await store.revisions(app_id)] == [(1, False)]
        with pytest.raises(NotFoundError, match="no longer kept"):
            await store.spec(app_id, 1)
        assert await store.kept_specs() == []
        new = await store.add_revision("hello", "d", spec(), BY, 4.0, expected_version=0)
        assert (new.app_id != app_id, new.version) == (True, 1)
        assert [each.id for each in await store.apps(include_stopped=True)] == [new.app_id, app_id]

    with_store(settings, use)


def test_pruning_keeps_the_newest_and_all_history(settings: Settings) -> None:
    async def use(store: Store) -> None:
        for number in range(1, 6):
            app_id = (await store.add_revision("hello", f"d{number}", spec(number=number), BY, float(number))).app_id
        assert await store.prune(app_id, 9) == []
        assert await store.prune(app_id, 3) == [1, 2]
        assert await store.prune(app_id, 3) == []
        assert [(each.version, each.kept) for each in await store.revisions(app_id)] == [
            (5, True),
            (4, True),
            (3, True),
            (2, False),
            (1, False),
        ]
        with pytest.raises(NotFoundError, match=r"Version 2 of app .* is no longer kept"):
            await store.spec(app_id, 2)
        assert await store.spec(app_id, 3) == spec(number=3)
        assert await store.prune(app_id, 0) == [3, 4]
        assert await store.spec(app_id, 5) == spec(number=5)

    with_store(settings, use)


def test_what_must_not_be_swept(settings: Settings) -> None:
    async def use(store: Store) -> None:
        app_id = (await store.add_revision("hello", "d1", spec(number=1), BY, 1.0)).app_id
        await store.add_revision("hello", "d2", spec(number=2), BY, 2.0)
        await store.add_revision("another", "d3", spec("another", 3), BY, 3.0)
        app, another = await store.app("hello"), await store.app("another")
        assert app is not None
        assert another is not None
        kept = [(another, 1, spec("another", 3)), (app, 2, spec(number=2)), (app, 1, spec(number=1))]
        assert await store.kept_specs() == kept
        common = {"ee" * 32, "bb" * 32}
        of = {number: {f"{number:02x}" * 32, f"{number:02x}" * 31 + "aa"} for number in (1, 2, 3)}
        assert await store.kept_hashes() == common | of[1] | of[2] | of[3]
        await store.prune(app_id, 1)
        assert await store.kept_hashes() == common | of[2] | of[3]
        await store.stop_app(another.id, 4.0)
        assert await store.kept_hashes() == common | of[2]
        assert await store.kept_specs() == [(app, 2, spec(number=2))]

    with_store(settings, use)


def test_a_step_that_copies_nothing_is_no_obstacle(settings: Settings) -> None:
    bare = dataclasses.replace(spec(), files=())
    image = ImageSpec("3.11", steps=(ImageStep("add_local", {"copy": True, "files": []}),))
    bare = dataclasses.replace(bare, functions=(dataclasses.replace(bare.functions[0], image=image),))

    async def use(store: Store) -> None:
        await store.add_revision("hello", "d", bare, BY, 1.0)
        assert await store.kept_hashes() == set()

    with_store(settings, use)


# Secrets


def test_proxy_tokens(settings: Settings) -> None:
    async def use(store: Store) -> None:
        assert await store.proxy_tokens() == []
        later, sooner = ProxyToken("wk-b", "cd" * 32, 2.5), ProxyToken("wk-a", "ab" * 32, 1.5)
        await store.add_proxy_token(later)
        await store.add_proxy_token(sooner)
        assert await store.proxy_tokens() == [sooner, later]
        assert await store.delete_proxy_token("wk-a")
        assert not await store.delete_proxy_token("wk-a")
        assert await store.proxy_tokens() == [later]

    with_store(settings, use)


def test_secrets_are_sealed_and_the_rest_is_readable(settings: Settings) -> None:
    async def use(store: Store) -> str:
        app_id = (await store.add_revision("hello", "d", spec(), BY, 1.0)).app_id
        text = await everything(store)
        assert SECRET not in text
        assert "PASSWORD" not in text
        assert '"module":"hello"' in text
        assert '"deployed_by":"ada"' in text
        return app_id

    app_id = with_store(settings, use)
    key = settings.data_dir / "store.key"
    assert key.stat().st_mode & 0o777 == 0o600
    for path in settings.data_dir.iterdir():
        assert SECRET.encode() not in path.read_bytes()
    # The key is found again, also by a store that is opened later, and closed when somebody has opened it.
    key.chmod(0o644)
    assert with_store(settings, lambda store: store.spec(app_id, 1)) == spec()
    assert key.stat().st_mode & 0o777 == 0o600


def _remove(key: Path) -> None:
    key.unlink()


def _replace(key: Path) -> None:
    key.write_bytes(b"A" * 43 + b"=")


def _damage(key: Path) -> None:
    key.write_bytes(key.read_bytes()[:10])


@pytest.mark.parametrize(
    ("harm", "said"), [(_remove, "is missing"), (_replace, "is not the key"), (_damage, "does not hold a key")]
)
def test_without_its_key_the_database_is_refused(settings: Settings, harm: Callable[[Path], None], said: str) -> None:
    async def use(store: Store) -> str:
        return (await store.add_revision("hello", "d", spec(), BY, 1.0)).app_id

    app_id = with_store(settings, use)
    key = settings.data_dir / "store.key"
    right = key.read_bytes()
    harm(key)
    with pytest.raises(StoreError, match=f"{key} {said}.*[Bb]ackup"):
        asyncio.run(_open_and_close(settings))
    key.write_bytes(right)
    assert with_store(settings, lambda store: store.spec(app_id, 1)) == spec()


async def _open_and_close(settings: Settings) -> None:
    async with opened(settings):
        pass


def test_errors_do_not_show_what_was_written(settings: Settings) -> None:
    def change(connection: sa.Connection) -> None:
        connection.execute(sa.text("INSERT INTO nowhere VALUES (:value)"), {"value": SECRET})

    async def use(store: Store) -> None:
        with pytest.raises(StoreError, match="nowhere") as caught:
            await write(store, change)
        assert SECRET not in f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"

    with_store(settings, use)


# Environments and their secrets


def test_environments(settings: Settings) -> None:
    async def use(store: Store) -> None:
        environments = store.environments
        main = EnvironmentRecord("main", "main", "", 1.5)
        assert await environments.all(1.5) == [main]
        assert await environments.all(2.5) == [main], "it is made once"
        staging = EnvironmentRecord("en-1", "staging", "s", 3.5)
        await environments.add(staging)
        for wanted, error, text in (
            (EnvironmentRecord("en-2", "staging", "t", 4.0), AlreadyExistsError, "an environment 'staging' already"),
            (EnvironmentRecord("en-2", "other", "s", 4.0), ConflictError, "'s' belongs to the environment 'staging'"),
            (EnvironmentRecord("en-2", "other", "", 4.0), ConflictError, "belongs to the environment 'main'"),
        ):
            with pytest.raises(error, match=text):
                await environments.add(wanted)
        with pytest.raises(AlreadyExistsError):
            await environments.replace(EnvironmentRecord("en-1", "main", "s", 3.5))
        with pytest.raises(NotFoundError):
            await environments.replace(EnvironmentRecord("en-9", "nobody", "n", 3.5))
        test = dataclasses.replace(staging, name="test", web_suffix="t")
        await environments.replace(test)
        assert await environments.all(9.5) == [main, test]

        # One name, an app in each.
        one = await store.add_revision("hello", "d1", spec(), BY, 1.0)
        two = await store.add_revision("hello", "d2", spec(number=2), BY, 2.0, 0, "en-1")
        assert (one.version, two.version) == (1, 1)
        assert (await store.add_revision("hello", "d3", spec(number=3), BY, 3.0, 1, "en-1")).version == 2
        found = {app.environment: app for app in await store.apps()}
        assert (found["main"].version, found["en-1"].version) == (1, 2)
        assert await store.app("hello", "en-1") == found["en-1"]
        assert await store.app("hello") == found["main"]
        with pytest.raises(ConflictError, match="'hello' is deployed there"):
            await environments.delete("en-1")
        await store.stop_app(two.app_id, 5.0)
        assert await store.app("hello", "en-1") is None
        assert await store.app("hello") == found["main"]
        assert len(await store.apps(include_stopped=True)) == 2
        await environments.delete("en-1")
        assert await environments.all(9.5) == [main]
        assert await store.apps(include_stopped=True) == [found["main"]]
        assert await store.revisions(two.app_id) == []
        assert await store.revisions(one.app_id) == [one]
        with pytest.raises(ConflictError, match="deleted meanwhile"):
            await store.add_revision("hello", "d4", spec(), BY, 6.0, environment="en-1")

    with_store(settings, use)


def test_secrets_are_sealed_and_each_environments_own(settings: Settings) -> None:
    async def use(store: Store) -> None:
        environments = store.environments
        await environments.all(1.0)
        await environments.add(EnvironmentRecord("en-1", "staging", "s", 2.0))
        assert await environments.secrets("main") == []
        assert await environments.secret("main", "database") is None
        ours = SecretRecord("main", "database", ("PASSWORD",), "1", 3.0, 3.0)
        theirs = SecretRecord("en-1", "database", ("ODD", "PASSWORD"), "2", 4.0, 4.0)
        await environments.put_secret(ours, {"PASSWORD": SECRET}, replace=False)
        await environments.put_secret(theirs, {"PASSWORD": f"{SECRET} 2", "ODD": "\n\udcffä"}, replace=True)
        assert await environments.secret("main", "database") == (ours, {"PASSWORD": SECRET})
        assert await environments.secret("en-1", "database") == (
            theirs,
            {"PASSWORD": f"{SECRET} 2", "ODD": "\n\udcffä"},
        )
        assert SECRET not in await everything(store)
        with pytest.raises(AlreadyExistsError, match="--force"):
            await environments.put_secret(ours, {"PASSWORD": "other"}, replace=False)
        new = SecretRecord("main", "database", ("A", "B"), "3", 9.0, 5.0)
        await environments.put_secret(new, {"A": "1", "B": "2"}, replace=True)
        kept = dataclasses.replace(new, created_at=3.0)
        assert await environments.secret("main", "database") == (kept, {"A": "1", "B": "2"})
        assert await environments.secrets("main") == [kept]
        assert await environments.delete_secret("main", "database")
        assert not await environments.delete_secret("main", "database")
        assert len(await environments.secrets("en-1")) == 1
        await environments.delete("en-1")
        assert await environments.secrets("en-1") == []

    with_store(settings, use)


# The writer


def test_what_waits_is_committed_together_and_each_fails_alone(settings: Settings) -> None:
    holding, going_on = threading.Event(), threading.Event()
    commits: list[sa.Connection] = []

    def count(connection: sa.Connection) -> None:
        commits.append(connection)

    def hold(connection: sa.Connection) -> None:
        holding.set()
        assert going_on.wait(10)

    def fail(connection: sa.Connection) -> None:
        put_fact("of one that fails")(connection)
        raise LookupError("mine")

    async def use(store: Store) -> None:
        held = asyncio.ensure_future(write(store, hold))
        assert await asyncio.to_thread(holding.wait, 10)
        twice = [write(store, put_fact("twice")), write(store, put_fact("twice"))]
        others = [write(store, put_fact(f"fact {number}")) for number in range(50)]
        gathered = asyncio.gather(*twice, write(store, fail), *others, return_exceptions=True)
        await asyncio.sleep(0)
        # Reads go on meanwhile, and see nothing that is not committed.
        assert await fact_names(store) == set()
        sa.event.listen(sa.Engine, "commit", count)
        going_on.set()
        await held
        first, second, failed, *rest = await gathered
        sa.event.remove(sa.Engine, "commit", count)
        assert first == "twice"
        assert isinstance(second, sa.exc.IntegrityError)
        assert isinstance(failed, LookupError)
        assert rest == [f"fact {number}" for number in range(50)]
        assert await fact_names(store) == {"twice", *rest}
        assert len(commits) == 2

    with_store(settings, use)


def test_a_change_alone_that_fails_leaves_nothing(settings: Settings) -> None:
    def fail(connection: sa.Connection) -> None:
        put_fact("half")(connection)
        raise LookupError("mine")

    async def use(store: Store) -> None:
        with pytest.raises(LookupError, match="mine"):
            await write(store, fail)
        await write(store, put_fact("whole"))
        with pytest.raises(sa.exc.IntegrityError):
            await write(store, put_fact("whole"))
        assert await fact_names(store) == {"whole"}

    with_store(settings, use)


def test_one_that_breaks_the_transaction_does_not_take_the_others_along(settings: Settings) -> None:
    holding, going_on = threading.Event(), threading.Event()
    faults = {"sqlite": sa.exc.OperationalError, "postgresql": sa.exc.OperationalError}

    def hold(connection: sa.Connection) -> None:
        holding.set()
        assert going_on.wait(10)

    def breaks(connection: sa.Connection) -> None:
        put_fact("of the culprit")(connection)
        raise faults[connection.dialect.name]("breaks", None, Exception("the whole transaction"))

    async def use(store: Store) -> None:
        held = asyncio.ensure_future(write(store, hold))
        assert await asyncio.to_thread(holding.wait, 10)
        gathered = asyncio.gather(
            write(store, put_fact("before")),
            write(store, breaks),
            write(store, put_fact("after")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        going_on.set()
        await held
        before, broken, after = await gathered
        assert (before, after) == ("before", "after")
        assert isinstance(broken, StoreError)
        assert await fact_names(store) == {"before", "after"}

    with_store(settings, use)


def test_a_caller_who_leaves_disturbs_nobody(settings: Settings) -> None:
    holding, going_on = threading.Event(), threading.Event()

    def hold(connection: sa.Connection) -> None:
        holding.set()
        assert going_on.wait(10)

    async def use(store: Store) -> None:
        held = asyncio.ensure_future(write(store, hold))
        assert await asyncio.to_thread(holding.wait, 10)
        left = asyncio.ensure_future(write(store, put_fact("of one who left")))
        stays = asyncio.ensure_future(write(store, put_fact("of one who stays")))
        await asyncio.sleep(0)
        left.cancel()
        held.cancel()
        await asyncio.sleep(0)
        going_on.set()
        await stays
        assert await fact_names(store) == {"of one who stays"}

    with_store(settings, use)


def test_closing_finishes_what_was_asked_for_and_leaves_nothing(settings: Settings) -> None:
    async def life() -> None:
        async with opened(settings) as store:
            await fact_names(store)
            asked = [asyncio.ensure_future(write(store, put_fact(f"fact {number}"))) for number in range(300)]
            await asyncio.sleep(0)
        assert len(await asyncio.gather(*asked)) == 300
        await store.close()
        for late in (write(store, put_fact("late")), fact_names(store)):
            with pytest.raises(StoreError, match="closed"):
                await late

    asyncio.run(life())
    descriptors, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    asyncio.run(life_again(settings))
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


async def life_again(settings: Settings) -> None:
    async with opened(settings) as store:
        assert len(await fact_names(store)) == 300


WRITES_FOR_EVER = """\
import asyncio, sys
from pathlib import Path
from store_kit import opened, put_fact, write
from zygo.settings import Settings

async def one(store, worker):
    for number in range(10**9):
        print(await write(store, put_fact(f"{worker}-{number}")), flush=True)

async def life():
    async with opened(Settings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2])) as store:
        await asyncio.gather(*(one(store, worker) for worker in range(8)))

asyncio.run(life())
"""


def test_what_was_acknowledged_survives_kill_9(settings: Settings) -> None:
    for round_number in range(3):
        folder = settings.data_dir / f"round{round_number}"
        folder.mkdir(parents=True)
        mine = settings.replace(data_dir=folder)
        if settings.database_url and round_number:
            # Its secrets' key is the database's.
            (folder / "store.key").write_bytes((settings.data_dir / "round0" / "store.key").read_bytes())
            with_store(mine, lambda store: write(store, _clear_facts))
        command = [sys.executable, "-c", WRITES_FOR_EVER, str(folder), settings.database_url]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline() for _ in range(100 * (round_number + 1))]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.readlines()
        # The last line may be cut.
        names = {line.strip() for line in acknowledged if line.endswith("\n")}
        assert len(names) >= 100
        assert names <= with_store(mine, fact_names)


def _clear_facts(connection: sa.Connection) -> None:
    connection.execute(sa.text("DELETE FROM facts WHERE name <> 'key_fingerprint'"))


# The schema


def test_a_newer_database_is_refused(settings: Settings) -> None:
    def newer(connection: sa.Connection) -> None:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))

    with_store(settings, lambda store: write(store, newer))
    with pytest.raises(StoreError, match=f"schema 9999, and zygo .* knows none after {HEAD}: a newer zygo has used it"):
        asyncio.run(_open_and_close(settings))


def test_the_migrations_lead_to_the_schema(settings: Settings) -> None:
    """From nothing, step by step, to what a new database gets at once."""
    from alembic import command
    from alembic.config import Config

    database = database_for(settings, PATIENCE)
    with database.connect_writer() as connection:
        with connection.begin():
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(FOLDER))
            config.set_main_option("path_separator", "newline")
            command.upgrade(config, "head")
        with connection.begin():
            context = MigrationContext.configure(
                connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
            )
            differences = [each for each in compare_metadata(context, metadata) if VERSION_TABLE not in str(each)]
            assert differences == []
            assert connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD
    database.close()
    asyncio.run(_open_and_close(settings))
