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
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from store_kit import BY, spec, with_store
from zygo.model import AppRecord, AppSpec, AuditEntry, RevisionRecord, TokenRecord, decode, encode
from zygo.settings import Settings
from zygo.store.schema import HEAD

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
