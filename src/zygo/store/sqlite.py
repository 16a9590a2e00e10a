"""SQLite: one file below the data directory, with its `-wal` and `-shm` beside it while it is open."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zygo.errors import StoreError
from zygo.store.vault import sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("zygo.store")

COPIES = 3
"""Copies from before migrations that are kept, the newest ones."""

WAL_BYTES = 64 * 2**20
"""To which the log is cut back after it grew."""


class Sqlite:
    """The database in `path`, which is made when it is not there, for its owner alone.

    Arguments:
        patience: seconds to wait for a lock that another process holds.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self.shown = str(path)
        self._path = path
        self._patience = patience
        self._writers = self._engine("BEGIN IMMEDIATE")
        self._readers = self._engine("BEGIN")
        sa.event.listen(self._readers, "connect", _only_read)

    def _engine(self, begin: str) -> sa.Engine:
        # hide_parameters: an error's text is logged and shown, and parameters are users' data.
        engine = sa.create_engine(
            "sqlite+pysqlite://", creator=self._connect, poolclass=sa.NullPool, hide_parameters=True
        )
        # Python's own idea of when to begin leaves DDL out and takes the write lock late, when waiting may be a deadlock.
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = not self._path.exists()
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if self._path.stat().st_mode & 0o077:
            self._path.chmod(0o600)
        if new:
            sync_folder(self._path.parent)
        connection = sqlite3.connect(
            self._path, timeout=self._patience, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_writer(self) -> sa.Connection:
        """See Database."""
        return self._open(self._writers)

    def connect_reader(self) -> sa.Connection:
        """See Database."""
        return self._open(self._readers)

    def _open(self, engine: sa.Engine) -> sa.Connection:
        try:
            return engine.connect()
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            raise self.explain(error) from None

    def keep_copy(self, schema: str) -> None:
        """See Database. Beside the database, with the schema's version and the time in its name; appears whole or not at all."""
        now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        target = self._path.with_name(f"{self._path.name}.schema-{schema}.{now}")
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            os.close(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(self._connect()) as source, contextlib.closing(sqlite3.connect(staged)) as copy:
                source.backup(copy)
            sync_file(staged)
            staged.replace(target)
            sync_folder(target.parent)
        except (sqlite3.Error, OSError) as error:
            size = self._path.stat().st_size / 2**20
            raise StoreError(
                f"{self._path} has to be migrated, and no copy of it can be made before: {_words(error)}. Nothing was changed. "
                f"Free {size:.0f} MiB in {target.parent}, or see that it can be written to, and start again."
            ) from None
        finally:
            staged.unlink(missing_ok=True)
        log.info("%s was copied to %s before its schema %s is migrated", self._path, target.name, schema)
        for old in sorted(self._path.parent.glob(f"{self._path.name}.schema-*"), key=_made_at)[:-COPIES]:
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def migrating(self, connection: sa.Connection) -> Iterator[None]:
        """Foreign keys are not enforced meanwhile: a table is changed by making it anew and dropping the old one. The
        setting cannot be changed within a transaction."""
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys = OFF")
        try:
            yield
        finally:
            raw.execute("PRAGMA foreign_keys = ON")

    def mark(self, connection: sa.Connection) -> str | None:
        """Nothing: what COMMIT says is so."""
        return None

    def has_committed(self, connection: sa.Connection, mark: str) -> bool:
        """Never asked."""
        raise NotImplementedError

    def is_lost(self, error: Exception) -> bool:
        """A file does not go away."""
        return False

    def is_busy(self, error: Exception) -> bool:
        """See Database."""
        return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def explain(self, error: Exception) -> StoreError:
        """See Database."""
        path, code, text = self._path, _code(error), _words(error)
        if self.is_busy(error):
            return StoreError(
                f"{path} is locked by another process and was not released within {self._patience:g} s. Close what has it "
                f"open (a sqlite3 shell, a backup); `fuser {path}` names it."
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreError(
                f"{path} cannot be written: the disk is full ({text}). Free space in {path.parent}; what was not "
                f"acknowledged is to be done again."
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(
                f"{path} is damaged, or not a SQLite database ({text}). Stop the server, move the file and those beside "
                f"it (-wal, -shm) away and put a backup in its place; without one, deploy your apps again."
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or code is None:
            return StoreError(
                f"{path} cannot be opened for writing: {text}. Check its owner and mode, and its folder's."
            )
        return StoreError(f"{path} cannot be used: {text}.")

    def close(self) -> None:
        """Nothing is held beside the connections."""


def _words(error: Exception) -> str:
    return str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)


def _made_at(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _only_read(connection: Any, _: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _code(error: Exception) -> int | None:
    """The primary result code of SQLite, None when the error is not SQLite's."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
