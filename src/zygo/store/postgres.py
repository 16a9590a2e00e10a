"""PostgreSQL, by URL. One server at a time uses a database: the connection that writes holds a lock on it.

That the lock belongs to the writing connection is the point: who has lost it cannot write either. It is taken anew with
each connection, and by then the predecessor's transaction has ended one way or the other.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

import sqlalchemy as sa

from zygo.errors import InvalidError, StoreError

LOCK_CLASS = 0x7A79676F
"""First half of the lock's key: "zygo" in ASCII. The second is a hash of the schema's name."""

TAKEOVER_SECONDS = 3.0
"""How long the lock is waited for: the connection of a server that was killed takes a moment to be noticed as closed."""

STATEMENT_SECONDS = 60.0
"""No statement of ours takes as long; what does is stuck."""

CONNECT = {
    "connect_timeout": 5,
    # A peer that vanished without a word is noticed in about 15 s instead of the kernel's quarter of an hour.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15000,
}

BUSY_STATES = ("55P03", "57014", "40P01")
"""lock_not_available, query_canceled (by the statement timeout), deadlock_detected."""


class Postgres:
    """The database that `url` names.

    Arguments:
        url: postgresql://user:password@host/database; libpq's options may follow.
        patience: seconds to wait for a lock that somebody holds.

    Raises InvalidError for another kind of URL, StoreError without the driver.
    """

    def __init__(self, url: str, patience: float) -> None:
        parsed = _parse(url)
        # Options may hold a password too (?password=, ?sslpassword=).
        self.shown = (
            parsed.set(query={}).render_as_string(hide_password=True).replace("postgresql+psycopg:", "postgresql:")
        )
        self._patience = patience
        # Tells our own connections from those of others, also when a process id is used again.
        self._name = f"zygo {secrets.token_hex(8)}"
        self._writer_pid = 0
        try:
            self._engine = sa.create_engine(
                parsed,
                poolclass=sa.NullPool,
                hide_parameters=True,
                connect_args={**CONNECT, "application_name": self._name, **parsed.query},
            )
        except ModuleNotFoundError as error:
            raise StoreError(
                f"ZYGO_DATABASE_URL names a PostgreSQL database, and its driver is not installed ({error.name}): "
                f"pip install 'zygo[postgres]'."
            ) from None
        sa.event.listen(self._engine, "connect", self._prepare)

    def _prepare(self, connection: Any, _: object) -> None:
        connection.autocommit = True
        connection.execute(f"SET lock_timeout = {int(self._patience * 1000)}")
        connection.execute(f"SET statement_timeout = {int(STATEMENT_SECONDS * 1000)}")
        # Acknowledged means on disk, whatever is usual on that server. More than that (remote_apply) stays.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        connection.autocommit = False

    def connect_writer(self) -> sa.Connection:
        """See Database. Takes the lock; raises StoreError when another server has it."""
        connection = self._connect()
        try:
            self._take_lock(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sa.exc.DBAPIError):
                if _state(error) == "55P03":
                    raise StoreError(
                        f"Another zygo server uses {self.shown}; a database belongs to one server at a time. Stop that "
                        f"one, or set ZYGO_DATABASE_URL to a database of this server's own."
                    ) from None
                raise self.explain(error) from None
            raise
        return connection

    def _take_lock(self, connection: sa.Connection) -> None:
        with connection.begin():
            # Ours from before, which the server may not have noticed to be gone.
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid AND application_name = :name"
                ),
                {"pid": self._writer_pid, "name": self._name},
            )
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(min(TAKEOVER_SECONDS, self._patience) * 1000)}")
            # Of the session, not of the transaction.
            connection.execute(
                sa.text("SELECT pg_advisory_lock(:class, hashtext(current_schema()))"), {"class": LOCK_CLASS}
            )
            self._writer_pid = connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0

    def connect_reader(self) -> sa.Connection:
        """See Database."""
        return self._connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(
                f"{self.shown} cannot be reached: {_text(error)}. Check that PostgreSQL runs and that ZYGO_DATABASE_URL "
                f"is right."
            ) from None

    def keep_copy(self, schema: str) -> None:
        """Nothing: `pg_dump` is its owner's, and may not even be installed here. The upgrade guide says when."""

    def migrating(self, connection: sa.Connection) -> contextlib.AbstractContextManager[None]:
        """Nothing besides the lock that the connection holds."""
        return contextlib.nullcontext()

    def mark(self, connection: sa.Connection) -> str | None:
        """The transaction's id: when the answer to COMMIT is lost, the server can still be asked what became of it."""
        return str(connection.scalar(sa.text("SELECT pg_current_xact_id()::text")))

    def has_committed(self, connection: sa.Connection, mark: str) -> bool:
        """See Database. It is decided by now: the connection that ran it held the lock that `connection` has taken."""
        with connection.begin():
            status = connection.scalar(sa.text("SELECT pg_xact_status(CAST(:mark AS xid8))"), {"mark": mark})
        return bool(status == "committed")

    def is_lost(self, error: Exception) -> bool:
        """See Database."""
        return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated

    def is_busy(self, error: Exception) -> bool:
        """See Database."""
        return _state(error) in BUSY_STATES

    def explain(self, error: Exception) -> StoreError:
        """See Database."""
        if self.is_lost(error):
            return StoreError(f"The connection to {self.shown} was lost: {_text(error)}. Check that PostgreSQL runs.")
        if self.is_busy(error):
            return StoreError(
                f"{self.shown} is locked by another program and was not released within {self._patience:g} s: "
                f"{_text(error)}. pg_stat_activity shows by whom."
            )
        if _state(error) == "53100":
            return StoreError(f"{self.shown} is full: {_text(error)}. Free space on PostgreSQL's disk.")
        return StoreError(f"{self.shown} cannot be used: {_text(error)}.")

    def close(self) -> None:
        """See Database."""
        self._engine.dispose()


def _parse(url: str) -> sa.URL:
    """The URL. Messages do not repeat it: a password may be in any part of one that is not as it should be."""
    mend = "Write postgresql://user:password@host:port/database, a `@`, `:`, `/` or `%` in the password as %40, %3A, %2F, %25."
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidError(f"ZYGO_DATABASE_URL is not a URL. {mend}") from None
    if parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise InvalidError(
            f"ZYGO_DATABASE_URL: {parsed.drivername} is not supported. {mend} Unset, the state is kept in SQLite in the data "
            f"directory."
        )
    if "@" in (parsed.host or "") or "@" in (parsed.database or ""):
        raise InvalidError(f"ZYGO_DATABASE_URL has more than one `@`. {mend}")
    if not parsed.database:
        raise InvalidError(f"ZYGO_DATABASE_URL names no database. {mend}")
    return parsed.set(drivername="postgresql+psycopg")


def _state(error: Exception) -> str:
    """The SQLSTATE, empty when there is none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _text(error: Exception) -> str:
    """The first line of what the driver says, without the statement."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__
