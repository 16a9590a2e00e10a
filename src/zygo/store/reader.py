"""The thread that reads, on a connection of its own: it waits for no writer, and sees what was committed before."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from zygo.errors import StoreError
from zygo.store.writer import PAUSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.store.database import Database
    from zygo.store.outage import Outage

T = TypeVar("T")


class Reader:
    """Answers questions of `database`, one after the other.

    Arguments:
        patience: seconds that a question waits for a database that went away.
        outage: what is known of such times, shared with the writer.
    """

    def __init__(self, database: Database, patience: float, outage: Outage) -> None:
        self._database = database
        self._patience = patience
        self._outage = outage
        self._connection: sa.Connection | None = None
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="zygo store reader")

    async def run(self, question: Callable[[sa.Connection], T]) -> T:
        """What `question` returned, within one transaction. StoreError when the database fails."""
        if self._closing.is_set():
            raise StoreError("The store is closed.")
        until = time.monotonic() + self._patience
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask, question, until)

    def close(self) -> None:
        """Finish what was asked and close the connection. Blocks; may be called twice."""
        self._closing.set()
        self._pool.shutdown()
        self._disconnect()

    def _ask(self, question: Callable[[sa.Connection], T], until: float) -> T:
        pauses = list(PAUSES)
        while True:
            try:
                if self._connection is None:
                    self._connection = self._database.connect_reader()
                with self._connection.begin():
                    answer = question(self._connection)
                self._outage.over()
                return answer
            except (StoreError, sa.exc.SQLAlchemyError) as error:
                away = self._connection is None or self._database.is_lost(error)
                if not away:
                    raise error if isinstance(error, StoreError) else self._database.explain(error) from None
                self._disconnect()
                self._outage.found()
                if not self._outage.may_wait(until) or self._closing.is_set():
                    said = error if isinstance(error, StoreError) else self._database.explain(error)
                    raise StoreError(self._outage.told(str(said))) from None
            self._closing.wait(pauses[0])
            pauses = pauses[1:] or pauses

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):
                connection.close()
