"""The request log of one app: each request to the terminal and the file, and a count of them when there are too many.

A line costs the server, the command and the terminal 300 microseconds together, three times what the gateway spends on
the request itself, and nobody reads a thousand of them in a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.gateway.routes import RequestRecord
    from zygo.server.app_logs import AppLog

SHOWN = 100
"""Requests that are shown one by one in a second; as many failed ones (5xx, or left by the client) besides."""

WINDOW_SECONDS = 1.0


class Listener(Protocol):
    """Who hears of every request that is shown; a session, or nobody."""

    def emit(self, event: dict[str, Any]) -> None: ...


class RequestLog:
    """Tells `listener` and `log_file` of every request, in full or, beyond SHOWN in a second, in one line at its end.

    `say` takes the line: (function, text).
    """

    def __init__(self, listener: Listener, log_file: AppLog, say: Callable[[str, str], None]) -> None:
        self._listener = listener
        self._log_file = log_file
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._window_ends = 0.0
        self._shown = 0
        self._failed = 0
        self._counted: Counter[tuple[str, int]] = Counter()
        self._slowest = 0.0
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: RequestRecord) -> None:
        """One finished request."""
        now = self._loop.time()
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_SECONDS
            self._shown = self._failed = 0
        if self._shown < SHOWN:
            self._shown += 1
        elif (record.status >= 499 or record.error) and self._failed < SHOWN:
            self._failed += 1
        else:
            self._count(record)
            return
        self._show(record)

    def close(self) -> None:
        """Tell what was only counted so far. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell()

    def _count(self, record: RequestRecord) -> None:
        self._counted[record.function, record.status] += 1
        self._seconds += record.total
        if record.total > self._slowest:
            self._slowest = record.total
        if self._timer is None:
            self._timer = self._loop.call_at(self._window_ends, self._tell)

    def _tell(self) -> None:
        counted, self._counted = self._counted, Counter()
        mean, slowest = self._seconds / max(1, counted.total()), self._slowest
        self._timer, self._seconds, self._slowest = None, 0.0, 0.0
        functions = {function for function, _ in counted}
        by_status: Counter[int] = Counter()
        for (_, status), number in counted.items():
            by_status[status] += number
        kinds = ", ".join(f"{number} with {status}" for status, number in sorted(by_status.items()))
        times = f"{mean * 1e3:.1f} ms on average, {slowest * 1e3:.1f} at most"
        self._say(
            functions.pop() if len(functions) == 1 else "",
            f"{counted.total()} more requests in this second: {kinds}; {times}",
        )

    def _show(self, record: RequestRecord) -> None:
        self._listener.emit(_event(record))
        text = f"{record.method} {record.path} {record.status} {record.start} {record.total * 1e3:.1f} ms {record.request_id}"
        if record.error:
            text += f" {record.error}"
        self._log_file.write(record.function, "request", text, container=record.container or "")


def _event(record: RequestRecord) -> dict[str, Any]:
    return {
        "type": "request",
        "function": record.function,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "start": record.start,
        "queue_ms": record.queue * 1e3,
        "fork_ms": record.fork * 1e3,
        "first_ms": record.first * 1e3,
        "total_ms": record.total * 1e3,
        "request_id": record.request_id,
        "container": record.container,
        "client": record.client,
        "error": record.error,
    }
