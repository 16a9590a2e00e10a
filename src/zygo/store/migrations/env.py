"""Run by Alembic inside the transaction that migrate.py has begun on the connection it hands over."""

from __future__ import annotations

from alembic import context

from zygo.store.schema import VERSION_TABLE
from zygo.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
)
context.run_migrations()
