"""Databases of every released schema are opened by this code, and everything in them is read.

Beside this file, for each schema: `NNNN.sqlite.sql` and `NNNN.postgres.sql` (dumps with rows), `NNNN.*.json` (what the store of
that time read from them), `NNNN.key` (the key of their secrets). They are never changed once released. For the next schema:

1. Change `store/tables.py`, raise HEAD there, write `store/migrations/versions/NNNN_what.py` with `upgrade()`. It must work on
   both databases: `with op.batch_alter_table(...)` for changes of a table. test_the_migrations_lead_to_the_schema compares.
2. Before the release that brings it: `PYTHONPATH=tests python tests/upgrade/dump.py` (needs PostgreSQL), and extend `fill` there
   and `contents` here, so that every new table has rows and is read. Add the files to the repository.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from store_kit import BY, spec, with_store
from zygo.errors import StoreError
from zygo.model import (
    AppRecord,
    AppSpec,
    AuditEntry,
    EnvironmentRecord,
    RevisionRecord,
    SecretRecord,
    TokenRecord,
    decode,
    encode,
)
from zygo.settings import Settings
from zygo.store.schema import HEAD
from zygo.store.sqlite import COPIES

if TYPE_CHECKING:
    from zygo.store.store import Store

FOLDER = Path(__file__).parent
RELEASED = sorted({path.name[:4] for path in FOLDER.glob("[0-9]*.sql")})


async def contents(store: Store) -> dict[str, Any]:
    """Everything that the store's methods tell, as JSON-able values."""
    apps = await store.apps(include_stopped=True)
    return {
        "apps": encode(apps),
        "revisions": encode([revision for app in apps for revision in await store.revisions(app.id)]),
        "specs": [[app.id, version, encode(kept)] for app, version, kept in await store.kept_specs()],
        "hashes": sorted(await store.kept_hashes()),
        "calls": await calls_of(store),
        "tokens": encode(await store.access.tokens()),
        "environments": encode(await store.environments.all(0.0)),
        "secrets": [
            [encode(found[0]), found[1]]
            for environment in ("main", "en-1")
            for secret in await store.environments.secrets(environment)
            if (found := await store.environments.secret(environment, secret.name))
        ],
        "audit": encode(await store.access.audit(100)),
    }


async def calls_of(store: Store) -> dict[str, Any]:
    """The calls that `dump.fill` makes, none in a database from before there were any."""
    found = await store.calls.results([("fc-one", 0), ("fc-many", 0), ("fc-many", 1), ("fc-many", 2)])
    if found == [None] * 4:
        return {}
    due, _ = await store.calls.due("fu-2", 1e12, 10, frozenset())
    return {
        "calls": [encode(await store.calls.call(identifier)) for identifier in ("fc-one", "fc-many")],
        "results": [repr(result) for result in found],
        "due": [repr(each) for each in due],
        "backlog": await store.calls.backlog(),
        "files": sorted(await store.calls.named_files()),
    }


def as_records(told: dict[str, Any]) -> dict[str, Any]:
    """As values of today: what has been added since has its default."""
    return {
        "apps": [decode(AppRecord, app) for app in told["apps"]],
        "revisions": [decode(RevisionRecord, revision) for revision in told["revisions"]],
        "specs": [(app, version, decode(AppSpec, kept)) for app, version, kept in told["specs"]],
        "hashes": told["hashes"],
        "calls": told.get("calls", {}),
        "tokens": [decode(TokenRecord, token) for token in told.get("tokens", [])],
        "audit": [decode(AuditEntry, entry) for entry in told.get("audit", [])],
        # Whoever comes from before has the first one, made at the upgrade.
        "environments": [
            decode(EnvironmentRecord, {**each, "created_at": 0.0 if each["id"] == "main" else each["created_at"]})
            for each in told.get("environments", [{"id": "main", "name": "main", "web_suffix": "", "created_at": 0.0}])
        ],
        "secrets": [[decode(SecretRecord, record), values] for record, values in told.get("secrets", [])],
    }


def test_the_current_schema_has_its_dumps() -> None:
    assert HEAD in RELEASED


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("released", RELEASED)
def test_what_a_release_left_is_read_and_goes_on(
    released: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shutil.copyfile(FOLDER / f"{released}.key", tmp_path / "store.key")
    (tmp_path / "store.key").chmod(0o600)
    dump = (FOLDER / f"{released}.{kind}.sql").read_text()
    settings = Settings(data_dir=tmp_path)
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "zygo.db")) as connection:
            connection.executescript(dump)
    else:
        cluster = request.getfixturevalue("postgres")
        settings = Settings(data_dir=tmp_path, database_url=cluster.create_database())
        cluster.sql(dump, settings.database_url)
    expected = as_records(json.loads((FOLDER / f"{released}.{kind}.json").read_text()))
    assert len(expected["specs"]) >= 3
    assert any(function.env for _, _, kept in expected["specs"] for function in kept.functions)

    async def use(store: Store) -> None:
        assert as_records(await contents(store)) == expected
        app = await store.app("hello")
        assert app is not None
        assert (await store.add_revision("hello", "new", spec(), BY, 99.0)).version == app.version + 1
        assert await store.spec(app.id, app.version + 1) == spec()

    with_store(settings, use)


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("zygo.db.schema-*"))


def lay(released: str, folder: Path) -> Path:
    """The SQLite database of that schema in `folder`."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(FOLDER / f"{released}.key", folder / "store.key")
    (folder / "store.key").chmod(0o600)
    path = folder / "zygo.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FOLDER / f"{released}.sqlite.sql").read_text())
    return path


def dumped(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


async def nothing(store: Store) -> None:
    """Open and close."""


@pytest.mark.parametrize("released", RELEASED)
def test_before_a_migration_there_is_a_copy_with_which_one_can_go_back(released: str, tmp_path: Path) -> None:
    path = lay(released, tmp_path)
    before = dumped(path)
    for _ in range(2):  # the second start has nothing to migrate
        with_store(Settings(data_dir=tmp_path), nothing)
    if released == HEAD:
        assert copies(tmp_path) == []
        return
    [copy] = copies(tmp_path)
    assert copy.name.startswith(f"zygo.db.schema-{released}.")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert dumped(copy) == before != dumped(path)
    for each in tmp_path.glob("zygo.db-*"):
        each.unlink()
    copy.replace(path)
    assert dumped(path) == before


def test_the_newest_copies_are_kept(tmp_path: Path) -> None:
    for number in range(COPIES + 2):
        old = tmp_path / f"zygo.db.schema-0000.2020010{number}-000000"
        old.touch()
        os.utime(old, (number, number))
    lay(RELEASED[0], tmp_path)
    with_store(Settings(data_dir=tmp_path), nothing)
    assert len(copies(tmp_path)) == COPIES
    assert copies(tmp_path)[-1].name.startswith(f"zygo.db.schema-{RELEASED[0]}.")
    assert not list(tmp_path.glob(".*")), "nothing half made is left"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_without_room_for_a_copy_nothing_is_migrated(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "zygo-test", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.decode()}")
    try:
        path = lay(RELEASED[0], folder)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO facts VALUES ('large', ?)", ("x" * 600_000,))
        before = dumped(path)
        room = shutil.disk_usage(folder).free
        (folder / "ballast").write_bytes(b"x" * (room - 400 * 1024))
        with pytest.raises(
            StoreError, match=r"no copy of it can be made before: .*Nothing was changed. Free \d+ MiB in"
        ):
            with_store(Settings(data_dir=folder), nothing)
        assert dumped(path) == before
        assert copies(folder) == []
        assert not list(folder.glob(".*"))
        (folder / "ballast").unlink()
        with_store(Settings(data_dir=folder), nothing)
        assert len(copies(folder)) == 1
    finally:
        subprocess.run(["umount", folder], check=True)
