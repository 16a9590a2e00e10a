"""What a database has to know how to do beyond SQL, so that everything else is the same code for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import contextlib

    import sqlalchemy as sa

    from zygo.settings import Settings

PATIENCE = 15.0
"""Seconds that a read or write waits for a database that is locked or away before it fails."""


class Database(Protocol):
    """One database: a file, or what a URL names."""

    shown: str
    """Its name in messages; never a password."""

    def connect_writer(self) -> sa.Connection:
        """The one connection that writes. Raises StoreError when there can be none now."""
        ...

    def connect_reader(self) -> sa.Connection:
        """A connection that only reads. Raises StoreError when there can be none now."""
        ...

    def keep_copy(self, schema: str) -> None:
        """A copy of everything, from before a migration; `schema` is its version. Called with the write lock held and nothing
        changed yet. Raises StoreError when there can be none; then nothing is migrated. Where its owner makes copies: nothing."""
        ...

    def migrating(self, connection: sa.Connection) -> contextlib.AbstractContextManager[None]:
        """Around the transaction that changes the schema."""
        ...

    def mark(self, connection: sa.Connection) -> str | None:
        """A mark by which to recognise the transaction that has begun; None where COMMIT always tells its outcome."""
        ...

    def has_committed(self, connection: sa.Connection, mark: str) -> bool:
        """Whether the marked transaction, of an earlier writer connection, was committed."""
        ...

    def is_lost(self, error: Exception) -> bool:
        """Whether `error` says that the connection is gone, so that another may do better."""
        ...

    def is_busy(self, error: Exception) -> bool:
        """Whether `error` says that somebody else held a lock for as long as we wait; nobody else would fare better."""
        ...

    def explain(self, error: Exception) -> Exception:
        """`error` as a StoreError that names the database, the cause and the mend."""
        ...

    def close(self) -> None:
        """Release what is held beside the connections."""
        ...


def database_for(settings: Settings, patience: float) -> Database:
    """The database that the settings name. Raises InvalidError for a URL that names none, StoreError without the driver."""
    if settings.database_url:
        from zygo.store.postgres import Postgres

        return Postgres(settings.database_url, patience)
    from zygo.store.sqlite import Sqlite

    return Sqlite(settings.data_dir / "zygo.db", patience)
