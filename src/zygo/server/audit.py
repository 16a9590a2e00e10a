"""Writes down who changed what. An entry is made when the change is over, and holds what became of it."""

from __future__ import annotations

import getpass
import json
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from zygo.errors import Error
from zygo.model import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from zygo.server.access import Caller
    from zygo.store.access import AccessStore

log = logging.getLogger("zygo.audit")


class Audit:
    """The audit log of one server."""

    def __init__(self, store: AccessStore) -> None:
        self._store = store
        self.owner = f"local:{_user()}"
        """Who it is that comes by the unix socket: nobody but the server's own user can."""

    async def add(self, caller: Caller, action: str, target: str, outcome: str = "done", **detail: Any) -> None:
        """Add an entry. A database that fails is said in the server's log and stops nobody's work."""
        now = time.time()
        entry = AuditEntry(
            id=f"au-{time.time_ns():x}-{secrets.token_hex(3)}",
            at=now,
            who=caller.name if caller.remote else self.owner,
            token_id=caller.token_id,
            address=caller.address,
            action=action,
            target=target,
            outcome=outcome,
            detail=json.dumps({key: value for key, value in detail.items() if value not in (None, "", False)}),
        )
        try:
            await self._store.add_audit(entry)
        except Error as error:
            log.error("%s %s %s by %s could not be written down: %s", action, target, outcome, entry.who, error)

    async def around(
        self, caller: Caller, action: str, target: str, work: Awaitable[dict[str, Any]], **detail: Any
    ) -> dict[str, Any]:
        """What `work` returns, written down with its type as the outcome; a failure too, with its text."""
        try:
            result = await work
        except BaseException as error:
            text = str(error) if isinstance(error, Error) else type(error).__name__
            await self.add(caller, action, target, "failed", error=text[:500], **detail)
            raise
        outcome = str(result.get("type", "done"))
        if outcome != "missing":  # a question for content: the change itself follows
            error_text = str(result.get("message", ""))[:500] if outcome == "failed" else ""
            await self.add(caller, action, target, outcome, version=result.get("version"), error=error_text, **detail)
        return result

    async def entries(self, limit: int, target: str = "") -> list[AuditEntry]:
        """The newest first."""
        return await self._store.audit(limit, target)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
