"""Bring a database to the schema of this version of zygo, or refuse it.

An empty one gets the tables as they are now; an older one goes through the migrations. A test holds that both are the same.
Everything happens in one transaction, and nobody else migrates meanwhile: on SQLite it begins with the write lock, on
PostgreSQL the connection holds the server's lock (postgres.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from zygo.errors import StoreError
from zygo.store.schema import HEAD, VERSION_TABLE
from zygo.store.tables import metadata, versions
from zygo.version import version

if TYPE_CHECKING:
    from zygo.store.database import Database

FOLDER = Path(__file__).parent / "migrations"


def migrate(database: Database, connection: sa.Connection) -> None:
    """Run what is missing. Raises StoreError for a database that a newer zygo has made, SQLAlchemyError for faults."""
    with connection.begin():
        if _current(connection) == HEAD:
            return
    with database.migrating(connection), connection.begin():
        current = _current(connection)
        if current is None:
            metadata.create_all(connection)
            connection.execute(sa.insert(versions).values(version_num=HEAD))
        elif current != HEAD:
            _upgrade(database, connection, current)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(sa.select(versions.c.version_num))
    return found


def _upgrade(database: Database, connection: sa.Connection, current: str) -> None:
    # Importing Alembic takes as long as all the rest of the store, and is needed once per release.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current not in known:
        raise StoreError(
            f"{database.shown} has schema {current}, and zygo {version()} knows none after {HEAD}: a newer zygo has used "
            f"it. Install that version again, or put back a copy of the database from before the upgrade."
        )
    database.keep_copy(current)
    command.upgrade(config, "head")
