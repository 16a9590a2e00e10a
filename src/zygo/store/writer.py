"""The one thread that writes, with group commit.

Making a commit durable takes a disk's time, whatever is in it. So what is asked for while one is under way is run together in
the next transaction, and everybody is answered when that COMMIT has returned, never before. When one of them fails, the
transaction is rolled back and run again with each in a SAVEPOINT of its own, so that only that one fails. (From the start,
SAVEPOINTs would be two more statements for each change and a third as many changes in a second.)

A change is a function of the connection. It may be run again when its transaction came to nothing (the database went away, a
neighbour brought the transaction down), so all it does it does through the connection, and ids and times are chosen before.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from zygo.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.store.database import Database
    from zygo.store.outage import Outage

T = TypeVar("T")

MOST = 256
"""Changes in one transaction: further ones would make the first wait and hardly save anything."""

PAUSES = (0.05, 0.1, 0.2, 0.5)
"""Seconds between attempts to reach a database that went away; then the last one again and again."""

OWN_FAULT = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError, sa.exc.NotSupportedError)
"""What a statement alone is to blame for: the transaction around its SAVEPOINT goes on."""


@dataclass(eq=False)
class _Change:
    run: Callable[[sa.Connection], Any]
    future: asyncio.Future[Any]
    until: float
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs changes on `connection`, the writer connection of `database`, and owns it from now on.

    Arguments:
        patience: seconds that a change waits for a database that went away.
        outage: what is known of such times, shared with the reader.
    """

    def __init__(self, database: Database, connection: sa.Connection, patience: float, outage: Outage) -> None:
        self._database = database
        self._connection: sa.Connection | None = connection
        self._patience = patience
        self._outage = outage
        self._waiting: collections.deque[_Change] = collections.deque()
        self._news = threading.Condition()
        self._closing = threading.Event()
        # A daemon: a process that ends without `close` loses nothing that was acknowledged, and must not hang.
        self._thread = threading.Thread(target=self._main, name="zygo store writer", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sa.Connection], T]) -> T:
        """What `change` returned, once it is durable. Its own exceptions are raised here, IntegrityError among them, and
        then nothing of it was done. StoreError when the database fails. A caller that is cancelled does not know."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._news:
            if self._closing.is_set():
                raise StoreError("The store is closed.")
            self._waiting.append(_Change(change, future, time.monotonic() + self._patience))
            self._news.notify()
        return await future

    def close(self) -> None:
        """Finish what was asked for and close the connection. Blocks; may be called twice."""
        with self._news:
            self._closing.set()
            self._news.notify()
        self._thread.join()

    def _main(self) -> None:
        while batch := self._next():
            try:
                self._apply(batch)
            except (
                Exception
            ) as error:  # nothing known comes here; a thread that ends would leave callers waiting for ever
                self._fail(batch, error)
                self._disconnect()
        self._disconnect()

    def _next(self) -> list[_Change]:
        """What waits, at least one; empty when the store is closed and nothing is left."""
        with self._news:
            while not self._waiting and not self._closing.is_set():
                self._news.wait()
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _apply(self, batch: list[_Change]) -> None:
        """Run `batch` in one transaction, again when the database went away, and answer everybody in it."""
        # Whose caller has left before anything was done is left out.
        batch = [change for change in batch if not change.future.cancelled()]
        pauses = list(PAUSES)
        savepoints = False
        # The transaction whose COMMIT was sent and not answered.
        unknown: str | None = None
        while batch:
            try:
                connection = self._connect()
                if unknown is None or not self._database.has_committed(connection, unknown):
                    unknown = None
                    transaction = connection.begin()
                    mark = self._database.mark(connection)
                    self._run(connection, batch, savepoints)
                    unknown = mark
                    transaction.commit()
                self._outage.over()
                _answer(batch)
                return
            except Exception as error:
                if not isinstance(error, _Away) and not self._database.is_lost(error):
                    unknown = None
                    self._roll_back()
                    if savepoints or len(batch) == 1 or self._database.is_busy(error):
                        self._came_to_nothing(batch, error)
                        return
                    savepoints = True
                    continue
                self._disconnect()
                batch = self._still_patient(batch, error, unknown)
                if batch:
                    self._closing.wait(pauses[0])
                    pauses = pauses[1:] or pauses

    def _run(self, connection: sa.Connection, batch: list[_Change], savepoints: bool) -> None:
        """Each change once. Without SAVEPOINTs the fault of one is that of the transaction."""
        for change in batch:
            change.error = None
            if not savepoints:
                change.result = change.run(connection)
                continue
            savepoint = connection.begin_nested()
            try:
                change.result = change.run(connection)
                savepoint.commit()
            except Exception as error:
                if isinstance(error, sa.exc.SQLAlchemyError) and not isinstance(error, OWN_FAULT):
                    raise
                savepoint.rollback()
                change.error = self._explain(error)

    def _roll_back(self) -> None:
        """Leave the transaction that failed. When COMMIT itself failed (a full disk), SQLAlchemy takes it for ended and
        SQLite does not; closing the connection ends it for both."""
        assert self._connection is not None
        transaction = self._connection.get_transaction()
        if transaction is None or not transaction.is_active:
            self._disconnect()
            return
        try:
            transaction.rollback()
        except sa.exc.SQLAlchemyError:
            self._disconnect()

    def _came_to_nothing(self, batch: list[_Change], error: Exception) -> None:
        """The transaction was rolled back for a reason that another connection would not mend."""
        if len(batch) == 1 or self._database.is_busy(error):
            self._fail(batch, error)
            return
        # One of them may be to blame (too large for what is left of the disk): the others must not suffer for it.
        for change in batch:
            change.error = None
            self._apply([change])

    def _connect(self) -> sa.Connection:
        if self._connection is None:
            try:
                self._connection = self._database.connect_writer()
            except StoreError as error:
                raise _Away(error) from None
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):
                connection.close()

    def _still_patient(self, batch: list[_Change], error: Exception, unknown: str | None) -> list[_Change]:
        """Those that may wait longer; the others are told, now that the database is away."""
        self._outage.found()
        over = [change for change in batch if not self._outage.may_wait(change.until) or self._closing.is_set()]
        cause = error.cause if isinstance(error, _Away) else self._explain(error)
        doubt = " Whether this change was made is not known: look before you do it again." if unknown else ""
        self._fail(over, StoreError(f"{self._outage.told(str(cause))}{doubt}"))
        return [change for change in batch if change not in over]

    def _explain(self, error: Exception) -> Exception:
        """Errors of a change itself are for its caller as they are; faults of the database are put into words."""
        if isinstance(error, sa.exc.SQLAlchemyError) and not isinstance(error, sa.exc.IntegrityError):
            return self._database.explain(error)
        return error

    def _fail(self, batch: list[_Change], error: Exception) -> None:
        for change in batch:
            change.error = self._explain(error)
        _answer(batch)


class _Away(Exception):
    """There is no connection now; `cause` says why."""

    def __init__(self, cause: StoreError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _answer(batch: list[_Change]) -> None:
    """Tell the callers, each on its loop, in one go for those of the same loop."""
    for loop in {change.future.get_loop() for change in batch}:
        mine = [change for change in batch if change.future.get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, mine)


def _settle(batch: list[_Change]) -> None:
    for change in batch:
        if change.future.done():
            continue
        if change.error is not None:
            change.future.set_exception(change.error)
        else:
            change.future.set_result(change.result)
