"""The schema as this version of zygo knows it. `migrations/` leads to it; a test holds the two together."""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "0003"
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

proxy_tokens = sa.Table(
    "proxy_tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    # SHA-256 of the secret, in hexadecimal; the secret itself is nowhere.
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
"""What callers show to endpoints that ask for a token."""
