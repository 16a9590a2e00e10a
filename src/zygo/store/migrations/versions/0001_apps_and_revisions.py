"""Apps and their revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "apps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("stopped_at", sa.Double),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index(
        "apps_deployed_name",
        "apps",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state = 'deployed'"),
        postgresql_where=sa.text("state = 'deployed'"),
    )
    op.create_table(
        "revisions",
        sa.Column("app_id", sa.Text, sa.ForeignKey("apps.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("deployed_at", sa.Double, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.Column("spec", sa.Text),
        sa.Column("sealed_env", sa.Text),
    )
