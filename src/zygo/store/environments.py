"""Environments and their secrets: one method per query. Part of the store, see `Store.environments`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zygo.errors import AlreadyExistsError, ConflictError, NotFoundError
from zygo.model import MAIN, AppState, EnvironmentRecord, SecretRecord
from zygo.store.tables import apps, environments, revisions, secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.store.reader import Reader
    from zygo.store.vault import Vault
    from zygo.store.writer import Writer


class EnvironmentStore:
    """Environments and secrets of one store."""

    def __init__(self, writer: Writer, reader: Reader, vault: Vault) -> None:
        self._writer = writer
        self._reader = reader
        self._vault = vault

    async def all(self, now: float) -> list[EnvironmentRecord]:
        """Every environment, the oldest first; `main` is made when there is none yet."""
        query = sa.select(environments).order_by(environments.c.created_at, environments.c.id)

        def question(connection: sa.Connection) -> list[EnvironmentRecord]:
            return [EnvironmentRecord(**row._mapping) for row in connection.execute(query)]

        found = await self._reader.run(question)
        if not found:
            found = [EnvironmentRecord(MAIN, MAIN, "", now)]
            await self.add(found[0])
        return found

    async def add(self, environment: EnvironmentRecord) -> None:
        """Raises AlreadyExistsError when its name is taken, ConflictError when its web suffix is."""

        def change(connection: sa.Connection) -> None:
            _check_free(connection, environment)
            connection.execute(sa.insert(environments).values(dataclasses.asdict(environment)))

        await self._writer.run(change)

    async def replace(self, environment: EnvironmentRecord) -> None:
        """Give it another name or web suffix. Raises as `add` does, and NotFoundError."""

        def change(connection: sa.Connection) -> None:
            _check_free(connection, environment)
            values = {"name": environment.name, "web_suffix": environment.web_suffix}
            done = connection.execute(sa.update(environments).where(environments.c.id == environment.id).values(values))
            if not done.rowcount:
                raise NotFoundError(f"There is no environment {environment.name!r}.")

        await self._writer.run(change)

    async def delete(self, identifier: str) -> None:
        """Delete an environment with its secrets and the history of its apps, which must have been stopped.

        Raises ConflictError when one of them is deployed.
        """

        def change(connection: sa.Connection) -> None:
            deployed = sa.select(apps.c.name).where(
                apps.c.environment == identifier, apps.c.state == AppState.DEPLOYED.value
            )
            if (name := connection.scalar(deployed)) is not None:
                raise ConflictError(f"The app {name!r} is deployed there. Stop it first.")
            stopped = sa.select(apps.c.id).where(apps.c.environment == identifier)
            connection.execute(sa.delete(revisions).where(revisions.c.app_id.in_(stopped)))
            connection.execute(sa.delete(apps).where(apps.c.environment == identifier))
            connection.execute(sa.delete(secrets).where(secrets.c.environment == identifier))
            connection.execute(sa.delete(environments).where(environments.c.id == identifier))

        await self._writer.run(change)

    async def secrets(self, environment: str) -> list[SecretRecord]:
        """The secrets of an environment by name, without their values."""
        query = sa.select(secrets).where(secrets.c.environment == environment).order_by(secrets.c.name)
        return await self._reader.run(lambda connection: [_secret(row) for row in connection.execute(query)])

    async def secret(self, environment: str, name: str) -> tuple[SecretRecord, dict[str, str]] | None:
        """A secret and its values; None when there is none of that name."""
        query = sa.select(secrets).where(secrets.c.environment == environment, secrets.c.name == name)

        def question(connection: sa.Connection) -> tuple[SecretRecord, dict[str, str]] | None:
            row = connection.execute(query).first()
            return (_secret(row), dict(json.loads(self._vault.unseal(row.sealed_values)))) if row else None

        return await self._reader.run(question)

    async def put_secret(self, record: SecretRecord, values: Mapping[str, str], *, replace: bool) -> None:
        """Write a secret. Raises AlreadyExistsError when there is one of that name, unless `replace`."""
        sealed = self._vault.seal(json.dumps(dict(values)))
        which = (secrets.c.environment == record.environment, secrets.c.name == record.name)
        columns = {"keys": json.dumps(record.keys), "sealed_values": sealed, "stamp": record.stamp}

        def change(connection: sa.Connection) -> None:
            there = connection.scalar(sa.select(secrets.c.name).where(*which))
            if there is not None and not replace:
                raise AlreadyExistsError(f"There is a secret {record.name!r} already. --force gives it these values.")
            if there is not None:
                values = {**columns, "updated_at": record.updated_at}
                connection.execute(sa.update(secrets).where(*which).values(values))
                return
            connection.execute(
                sa.insert(secrets).values(
                    environment=record.environment,
                    name=record.name,
                    created_at=record.created_at,
                    updated_at=record.updated_at,
                    **columns,
                )
            )

        await self._writer.run(change)

    async def delete_secret(self, environment: str, name: str) -> bool:
        """Delete a secret. False when there is none of that name."""
        statement = sa.delete(secrets).where(secrets.c.environment == environment, secrets.c.name == name)
        return await self._writer.run(lambda connection: connection.execute(statement).rowcount > 0)


def _check_free(connection: sa.Connection, wanted: EnvironmentRecord) -> None:
    others = sa.select(environments.c.name).where(environments.c.id != wanted.id)
    if connection.scalar(others.where(environments.c.name == wanted.name)) is not None:
        raise AlreadyExistsError(f"There is an environment {wanted.name!r} already.")
    owner = connection.scalar(others.where(environments.c.web_suffix == wanted.web_suffix))
    if owner is not None:
        shown = repr(wanted.web_suffix) if wanted.web_suffix else "without a text"
        raise ConflictError(
            f"The web suffix {shown} belongs to the environment {owner!r}. Give another one with --web-suffix at "
            f"`create`, --set-web-suffix at `update`."
        )


def _secret(row: Any) -> SecretRecord:
    return SecretRecord(
        row.environment, row.name, tuple(json.loads(row.keys)), row.stamp, row.created_at, row.updated_at
    )
