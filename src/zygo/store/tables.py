"""The schema as this version of zygo knows it. `migrations/` leads to it; a test holds the two together."""

from __future__ import annotations

import sqlalchemy as sa

from zygo.store.schema import VERSION_TABLE

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
    # The id of its environment.
    sa.Column("environment", sa.Text, nullable=False, server_default="main"),
    # Of each name one app is deployed in an environment; stopped ones of the same name are history.
    sa.Index(
        "apps_deployed_name",
        "environment",
        "name",
        unique=True,
        sqlite_where=sa.text("state = 'deployed'"),
        postgresql_where=sa.text("state = 'deployed'"),
    ),
)

environments = sa.Table(
    "environments",
    metadata,
    # "main", or "en-" and random letters: it stays when the name changes.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("web_suffix", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
)
"""The environments; the server makes the first one when there is none."""

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("environment", sa.Text, sa.ForeignKey("environments.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    # JSON: the names of its values.
    sa.Column("keys", sa.Text, nullable=False),
    # JSON of the values by name, sealed (vault.py).
    sa.Column("sealed_values", sa.Text, nullable=False),
    # Another one each time the values change.
    sa.Column("stamp", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)
"""Named secrets."""

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


# In SQLite a key that is an INTEGER is the row's own number: no second tree.
_Position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

calls = sa.Table(
    "calls",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    # Whose it is: a deployed app's id, or a session's. Not a foreign key, since sessions are in no table.
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("function_id", sa.Text, nullable=False),
    # The Python that pickled the inputs.
    sa.Column("python", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    # How many inputs it has, and how many of them have no result yet.
    sa.Column("inputs", sa.Integer, nullable=False),
    sa.Column("open", sa.Integer, nullable=False),
    # Of the last result; with it the time until which results are kept.
    sa.Column("finished_at", sa.Double),
    sa.Column("expires_at", sa.Double),
    # The results are gone; the row stays a while to say so.
    sa.Column("expired", sa.Boolean, nullable=False),
    sa.Index("calls_open", "owner", sqlite_where=sa.text("open > 0"), postgresql_where=sa.text("open > 0")),
    sa.Index("calls_expiry", "expires_at"),
)

inputs = sa.Table(
    "inputs",
    metadata,
    # Grows from one input to the next: the order in which they were accepted.
    sa.Column("position", _Position, primary_key=True, autoincrement=False),
    sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("function_id", sa.Text, nullable=False),
    # CallState; never `running`, which only the server that runs it knows.
    sa.Column("state", sa.Text, nullable=False),
    # Not before this, in seconds since the epoch: when it was accepted, or the delay of a repetition.
    sa.Column("due_at", sa.Double, nullable=False),
    # Attempts that failed, and attempts whose container was lost.
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    # The pickled arguments until there is a result, then the frame of the result: here, or in the file of that hash.
    sa.Column("kind", sa.Text),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("payload_file", sa.Text),
    sa.Index("inputs_of_call", "call_id", "number", unique=True),
    sa.Index(
        "inputs_due",
        "function_id",
        "due_at",
        "position",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    ),
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
