"""Environments, and the secrets in them. What is there goes into the first one, `main`."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Two new tables, and a column for the apps."""
    environments = op.create_table(
        "environments",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("web_suffix", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.bulk_insert(environments, [{"id": "main", "name": "main", "web_suffix": "", "created_at": time.time()}])
    op.create_table(
        "secrets",
        sa.Column("environment", sa.Text, sa.ForeignKey("environments.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("sealed_values", sa.Text, nullable=False),
        sa.Column("stamp", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.add_column("apps", sa.Column("environment", sa.Text, nullable=False, server_default="main"))
    op.drop_index("apps_deployed_name", table_name="apps")
    op.create_index(
        "apps_deployed_name",
        "apps",
        ["environment", "name"],
        unique=True,
        sqlite_where=sa.text("state = 'deployed'"),
        postgresql_where=sa.text("state = 'deployed'"),
    )
