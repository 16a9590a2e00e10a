"""Calls and their inputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From apps and revisions alone."""
    op.create_table(
        "calls",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("app", sa.Text, nullable=False),
        sa.Column("function", sa.Text, nullable=False),
        sa.Column("function_id", sa.Text, nullable=False),
        sa.Column("python", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("inputs", sa.Integer, nullable=False),
        sa.Column("open", sa.Integer, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.Column("expires_at", sa.Double),
        sa.Column("expired", sa.Boolean, nullable=False),
    )
    op.create_index(
        "calls_open", "calls", ["owner"], sqlite_where=sa.text("open > 0"), postgresql_where=sa.text("open > 0")
    )
    op.create_index("calls_expiry", "calls", ["expires_at"])
    op.create_table(
        "inputs",
        sa.Column(
            "position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False
        ),
        sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("function_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("payload_file", sa.Text),
    )
    op.create_index("inputs_of_call", "inputs", ["call_id", "number"], unique=True)
    op.create_index(
        "inputs_due",
        "inputs",
        ["function_id", "due_at", "position"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
