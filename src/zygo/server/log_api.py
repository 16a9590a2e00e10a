"""GET /v1/apps/{name}/logs: an app's log, filtered, and on request followed.

The first object says whose log it is; every other one is a line. Reading is done in threads and one portion at a time, as the
client takes them: one that is slow holds up nobody, one that is gone ends it.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from zygo.errors import InvalidError
from zygo.server.log_lines import Wanted
from zygo.server.log_reader import all_lines, last_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.datastructures import QueryParams
    from starlette.types import Receive, Scope, Send

    from zygo.server.app_logs import AppLogs, Follower, LogKey
    from zygo.server.log_writer import Snapshot

DEFAULT_LINES = 100
"""Shown when neither a number nor a range is asked for."""

MAX_LINES = 1_000_000

_KNOWN = {"follow", "since", "until", "tail", "search", "function", "container", "stream"}


async def respond(logs: AppLogs, name: str, environment: str, query: QueryParams) -> StreamingResponse:
    """The answer; `environment` is the id of the app's. Raises InvalidError for a bad query, NotFoundError for an unknown app."""
    if unknown := sorted(set(query) - _KNOWN):
        raise InvalidError(f"The query has {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}.")
    wanted = Wanted(
        since=_seconds(query, "since"),
        until=_seconds(query, "until"),
        search=query.get("search", ""),
        functions=frozenset(query.getlist("function")),
        container=query.get("container", ""),
        streams=frozenset(query.getlist("stream")),
    )
    ranged = wanted.since is not None or wanted.until is not None
    count = _count(query, None if ranged else DEFAULT_LINES)
    follow = query.get("follow") in ("1", "true")
    if follow and ranged:
        raise InvalidError("Following begins with the last lines: it excludes since and until.")
    key = logs.find(name, environment)
    if follow:
        snapshot, follower = await logs.follow(key, wanted)
        return _LogResponse(_followed(logs, key, wanted, count or 0, snapshot, follower), snapshot, follower)
    snapshot = await logs.snapshot(key)
    return _LogResponse(_kept(logs, key, wanted, count, snapshot), snapshot)


class _LogResponse(StreamingResponse):
    """However it ends, even before its first byte, the files are closed and nobody follows any more."""

    def __init__(self, lines: AsyncIterator[bytes], snapshot: Snapshot, follower: Follower | None = None) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lines, self._snapshot, self._follower = lines, snapshot, follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._follower is not None:
                self._follower.close()
            self._snapshot.close()


def _head(logs: AppLogs, key: LogKey) -> bytes:
    head = {"type": "log", "app": key.app, "ephemeral": key.ephemeral, "live": logs.is_live(key)}
    return json.dumps(head).encode() + b"\n"


async def _kept(
    logs: AppLogs, key: LogKey, wanted: Wanted, count: int | None, snapshot: Snapshot
) -> AsyncIterator[bytes]:
    yield _head(logs, key)
    if count is not None:
        yield b"".join(await asyncio.to_thread(last_lines, snapshot, wanted, count))
        return
    portions = all_lines(snapshot, wanted)
    while (portion := await asyncio.to_thread(next, portions, None)) is not None:
        if portion:
            yield b"".join(portion)


async def _followed(
    logs: AppLogs, key: LogKey, wanted: Wanted, count: int, snapshot: Snapshot, follower: Follower
) -> AsyncIterator[bytes]:
    yield _head(logs, key)
    last = await asyncio.to_thread(last_lines, snapshot, wanted, count)
    snapshot.close()  # it may go on for days
    if last:
        yield b"".join(last)
    while lines := await follower.next():
        yield lines


def _seconds(query: QueryParams, name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidError(f"{name}={text[:40]!r} is not a time in seconds since 1970.")
    return value


def _count(query: QueryParams, default: int | None) -> int | None:
    text = query.get("tail")
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 12:
        raise InvalidError(f"tail={text[:40]!r} is not a number of lines.")
    return min(int(text), MAX_LINES)
