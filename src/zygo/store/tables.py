"""The schema as this version of zygo knows it. `migrations/` leads to it; a test holds the two together."""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "0004"
"""The newest migration. A database that is at it needs none, and then Alembic is not even imported."""

VERSION_TABLE = "zygo_version"
"""Where Alembic notes the version; not its usual name, since a PostgreSQL database may hold other programs' tables."""

metadata = sa.MetaData()

versions = sa.Table(VERSION_TABLE, metadata, sa.Column("version_num", sa.String(32), primary_key=True))
"""As Alembic makes it: one row."""

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What is known of the database itself: `key_fingerprint`, which key its secrets are sealed with."""

apps = sa.Table(
    "apps",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("stopped_at", sa.Double),
    sa.Column("version", sa.Integer, nullable=False),
    # Of each name one app is deployed; stopped ones of the same name are history.
    sa.Index(
        "apps_deployed_name",
        "name",
        unique=True,
        sqlite_where=sa.text("state = 'deployed'"),
        postgresql_where=sa.text("state = 'deployed'"),
    ),
)

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("app_id", sa.Text, sa.ForeignKey("apps.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("deployed_at", sa.Double, nullable=False),
    # JSON of Provenance.
    sa.Column("provenance", sa.Text, nullable=False),
    # JSON of AppSpec without the functions' env; NULL once the revision is no longer kept.
    sa.Column("spec", sa.Text),
    # The functions' env, sealed (vault.py); NULL when there is none, or the revision is no longer kept.
    sa.Column("sealed_env", sa.Text),
)

tokens = sa.Table(
    "tokens",
    metadata,
    # Part of the token itself, and no secret.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    # Scopes, separated by spaces.
    sa.Column("scopes", sa.Text, nullable=False),
    # SHA-256 of the secret part, in hexadecimal.
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("last_used_at", sa.Double),
    # The secret before the last rotation, while it is accepted too.
    sa.Column("old_hash", sa.Text),
    sa.Column("old_until", sa.Double),
)

audit = sa.Table(
    "audit",
    metadata,
    # Made by the server: grows from one entry to the next.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    # The token's name, or "local:" and the user; the token's id, and where it came from, are empty for the latter.
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("token_id", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    # JSON, different for each action.
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("audit_at", "at"),
)
"""Who changed what. Rows are only ever added."""
