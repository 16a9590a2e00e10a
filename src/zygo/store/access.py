"""Tokens, and the record of who changed what: one method per query. Part of the store, see `Store.access`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zygo.errors import AlreadyExistsError, NotFoundError
from zygo.model import AuditEntry, TokenRecord
from zygo.store.tables import audit, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.store.reader import Reader
    from zygo.store.writer import Writer


class AccessStore:
    """Tokens and audit entries of one store."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def tokens(self) -> list[TokenRecord]:
        """Every token, by name."""
        query = sa.select(tokens).order_by(tokens.c.name)
        return await self._reader.run(lambda connection: [_token(row) for row in connection.execute(query)])

    async def add_token(self, token: TokenRecord) -> None:
        """Raises AlreadyExistsError when there is one of that name."""

        def change(connection: sa.Connection) -> None:
            if connection.scalar(sa.select(tokens.c.id).where(tokens.c.name == token.name)) is not None:
                raise AlreadyExistsError(
                    f"There is a token {token.name!r} already. Rotate it, or give this one another name."
                )
            connection.execute(sa.insert(tokens).values(_columns(token)))

        await self._writer.run(change)

    async def replace_token(self, token: TokenRecord) -> None:
        """Write what has changed of a token. Raises NotFoundError."""

        def change(connection: sa.Connection) -> None:
            done = connection.execute(sa.update(tokens).where(tokens.c.id == token.id).values(_columns(token)))
            if not done.rowcount:
                raise NotFoundError(f"There is no token {token.name!r}.")

        await self._writer.run(change)

    async def delete_token(self, identifier: str) -> None:
        """Nothing happens when it is gone already."""
        await self._writer.run(lambda c: c.execute(sa.delete(tokens).where(tokens.c.id == identifier)) and None)

    async def note_use(self, used: Mapping[str, float]) -> None:
        """When tokens were last used: seconds since the epoch, by id."""

        def change(connection: sa.Connection) -> None:
            for identifier, at in used.items():
                connection.execute(sa.update(tokens).where(tokens.c.id == identifier).values(last_used_at=at))

        await self._writer.run(change)

    async def add_audit(self, entry: AuditEntry) -> None:
        """Add an entry."""
        await self._writer.run(lambda c: c.execute(sa.insert(audit).values(dataclasses.asdict(entry))) and None)

    async def audit(self, limit: int, target: str = "") -> list[AuditEntry]:
        """The newest entries first, at most `limit`; with `target` those of that app or token alone."""
        query = sa.select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
        if target:
            query = query.where(audit.c.target == target)
        return await self._reader.run(lambda c: [AuditEntry(**row._mapping) for row in c.execute(query)])


def _columns(token: TokenRecord) -> dict[str, Any]:
    return {**dataclasses.asdict(token), "scopes": " ".join(token.scopes)}


def _token(row: Any) -> TokenRecord:
    return TokenRecord(**{**row._mapping, "scopes": tuple(row.scopes.split())})
