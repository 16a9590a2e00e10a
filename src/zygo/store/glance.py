"""What a server has to know before it can answer for its deployed apps, read without SQLAlchemy.

Its import takes longer than everything else that a server does until then. So after a restart this is read by hand from a SQLite
database that needs no migration; the store itself is opened while the apps wake. A test holds that both say the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zygo.errors import Error
from zygo.model import AppRecord, AppSpec, AppState, EnvironmentRecord, ProxyToken, decode
from zygo.store.schema import HEAD, VERSION_TABLE
from zygo.store.sealing import with_env

if TYPE_CHECKING:
    import sqlite3

    from zygo.settings import Settings

log = logging.getLogger("zygo.store")

LOCKED_SECONDS = 1.0
"""How long a lock is waited for; the store itself waits longer, and says who is to let go."""

APPS = """
SELECT apps.id, apps.name, apps.created_at, apps.version, apps.environment, revisions.spec, revisions.sealed_env
FROM apps LEFT JOIN revisions ON revisions.app_id = apps.id AND revisions.version = apps.version
WHERE apps.state = 'deployed' ORDER BY apps.name, apps.created_at DESC, apps.id
"""
ENVIRONMENTS = "SELECT id, name, web_suffix, created_at FROM environments ORDER BY created_at, id"
TOKENS = "SELECT id, digest, created_at FROM proxy_tokens ORDER BY created_at, id"


@dataclass(frozen=True)
class Glance:
    """The deployed apps, by name, each with what it is (env included, but not the values of named secrets), the environments,
    and the proxy tokens."""

    apps: tuple[tuple[AppRecord, AppSpec], ...]
    environments: tuple[EnvironmentRecord, ...]
    tokens: tuple[ProxyToken, ...]


def glance(settings: Settings) -> Glance | None:
    """What the database says; None when it takes the store to read it: it is not SQLite, not there, of another schema, locked,
    damaged, or a secret in it cannot be opened. Changes nothing. Blocks."""
    path = settings.data_dir / "zygo.db"
    if settings.database_url or not path.exists():
        return None
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCKED_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            if connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() != [(HEAD,)]:
                return None
            return _read(connection, settings)
    except (sqlite3.Error, Error, OSError, ValueError, TypeError, LookupError) as error:
        log.info("the database is left to the store to read: %s", error)  # which says what is wrong, and the mend
        return None


def _read(connection: sqlite3.Connection, settings: Settings) -> Glance:
    rows = connection.execute(APPS).fetchall()
    unseal = None
    if any(row[6] is not None for row in rows):
        from zygo.store.vault import Vault

        (expected,) = connection.execute("SELECT value FROM facts WHERE name = 'key_fingerprint'").fetchone() or ("",)
        unseal = Vault.open(settings.data_dir / "store.key", expected).unseal
    apps = []
    for identifier, name, created_at, version, environment, text, sealed in rows:
        spec = decode(AppSpec, json.loads(text))
        if sealed is not None and unseal is not None:
            spec = with_env(spec, unseal(sealed))
        apps.append((AppRecord(identifier, name, AppState.DEPLOYED, created_at, version, None, environment), spec))
    environments = tuple(EnvironmentRecord(*row) for row in connection.execute(ENVIRONMENTS))
    return Glance(tuple(apps), environments, tuple(ProxyToken(*row) for row in connection.execute(TOKENS)))
