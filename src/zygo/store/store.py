"""The store: one method per query. The same code for SQLite and PostgreSQL.

    store = await Store.open(settings)
    revision = await store.add_revision("hello", digest, spec, by, time.time())
    await store.close()

Methods that change something return once it is on disk. Every one raises StoreError when the database fails, with the
cause and the mend; nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import string
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from zygo.errors import ConflictError, NotFoundError
from zygo.model import MAIN, AppRecord, AppSpec, AppState, Provenance, ProxyToken, RevisionRecord, decode, encode
from zygo.store.access import AccessStore
from zygo.store.calls import CallStore
from zygo.store.database import PATIENCE, Database, database_for
from zygo.store.environments import EnvironmentStore
from zygo.store.migrate import migrate
from zygo.store.outage import Outage
from zygo.store.payloads import PayloadFiles
from zygo.store.reader import Reader
from zygo.store.sealing import with_env, without_env
from zygo.store.tables import apps, environments, facts, proxy_tokens, revisions
from zygo.store.vault import Vault
from zygo.store.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.settings import Settings

T = TypeVar("T")

KEY_FINGERPRINT = "key_fingerprint"
HISTORY = [c for c in revisions.c if c.name not in ("spec", "sealed_env")] + [
    revisions.c.spec.is_not(None).label("kept")
]
"""What a RevisionRecord is made of: without the spec, which may be large."""


class Store:
    """All durable state of one server. Made by `open`; `close` releases its connections, threads and locks."""

    def __init__(self, database: Database, vault: Vault, writer: Writer, reader: Reader, files: PayloadFiles) -> None:
        self._database = database
        self._vault = vault
        self._writer = writer
        self._reader = reader
        self.access = AccessStore(writer, reader)
        """Tokens, and who changed what."""
        self.environments = EnvironmentStore(writer, reader, vault)
        """Environments, and the secrets in them."""
        self.calls = CallStore(writer, reader, files)
        """Calls and their results."""

    @classmethod
    async def open(cls, settings: Settings, *, patience: float = PATIENCE) -> Store:
        """Open the database that the settings name, make or migrate it.

        Arguments:
            patience: seconds that each read or write may wait for a database that is locked or away.

        Raises StoreError: cannot be reached, is damaged, is newer than this zygo, is used by another server, or the key of
        its secrets is not there; InvalidError for a `database_url` that is none.
        """
        return await asyncio.to_thread(cls._open, settings, patience)

    @classmethod
    def _open(cls, settings: Settings, patience: float) -> Store:
        database = database_for(settings, patience)
        try:
            connection = database.connect_writer()
            try:
                migrate(database, connection)
                vault = _open_vault(connection, settings.data_dir / "store.key")
            except BaseException:
                connection.close()
                raise
        except sa.exc.SQLAlchemyError as error:
            database.close()
            raise database.explain(error) from None
        except BaseException:
            database.close()
            raise
        files = PayloadFiles(settings.data_dir / "calls")
        outage = Outage(patience)
        writer, reader = Writer(database, connection, patience, outage), Reader(database, patience, outage)
        return cls(database, vault, writer, reader, files)

    @property
    def database(self) -> str:
        """The database as it may be shown: a path, or a URL without its password."""
        return self._database.shown

    async def close(self) -> None:
        """Finish what was asked for, then let go of the database. May be called twice."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.close()
        self._writer.close()
        self._database.close()

    async def app(self, name: str, environment: str = MAIN) -> AppRecord | None:
        """The deployed app of that name in the environment with that id."""

        def question(connection: sa.Connection) -> AppRecord | None:
            row = connection.execute(_deployed(name, environment)).first()
            return _app(row) if row else None

        return await self._reader.run(question)

    async def apps(self, include_stopped: bool = False) -> list[AppRecord]:
        """The deployed apps of every environment, by name; with `include_stopped` also those that were, of each name the last
        created first."""
        query = sa.select(apps).order_by(apps.c.name, apps.c.created_at.desc(), apps.c.id)
        if not include_stopped:
            query = query.where(apps.c.state == AppState.DEPLOYED.value)
        return await self._reader.run(lambda connection: [_app(row) for row in connection.execute(query)])

    async def add_revision(
        self,
        name: str,
        digest: str,
        spec: AppSpec,
        by: Provenance,
        now: float,
        expected_version: int | None = None,
        environment: str = MAIN,
    ) -> RevisionRecord:
        """Add the next revision of the deployed app `name` and make it the active one; without one such, a new app.

        Arguments:
            environment: the id of the environment that the app is in.
            digest: tells whether two revisions are the same; not interpreted here.
            now: seconds since the epoch.
            expected_version: the active version on which the caller's decision rests, 0 for "no such app is deployed".

        Raises ConflictError when another version is active by now; then nothing is changed.
        """
        app_id = new_app_id()
        values = {"digest": digest, "deployed_at": now, "provenance": _dumps(encode(by)), **self._sealed(spec)}

        def change(connection: sa.Connection) -> RevisionRecord:
            row = connection.execute(_deployed(name, environment)).first()
            active = row.version if row else 0
            if expected_version is not None and active != expected_version:
                raise ConflictError(_overtaken(name, expected_version, active))
            version = active + 1
            if row is None:
                _check_environment(connection, environment)
                new = {"id": app_id, "name": name, "state": AppState.DEPLOYED.value, "created_at": now}
                connection.execute(sa.insert(apps).values(version=version, environment=environment, **new))
            else:
                connection.execute(sa.update(apps).where(apps.c.id == row.id).values(version=version))
            owner = row.id if row else app_id
            connection.execute(sa.insert(revisions).values(app_id=owner, version=version, **values))
            return RevisionRecord(owner, version, digest, now, by)

        return await self._writer.run(change)

    async def revision(self, app_id: str, version: int) -> RevisionRecord:
        """One revision. Raises NotFoundError."""

        def question(connection: sa.Connection) -> RevisionRecord:
            row = connection.execute(sa.select(*HISTORY).where(*_is(app_id, version))).first()
            if row is None:
                raise NotFoundError(f"App {app_id} has no version {version}.")
            return _revision(row)

        return await self._reader.run(question)

    async def revisions(self, app_id: str) -> list[RevisionRecord]:
        """Every revision that the app ever had, the newest first; none for an app that is not known."""
        query = sa.select(*HISTORY).where(revisions.c.app_id == app_id).order_by(revisions.c.version.desc())
        return await self._reader.run(lambda connection: [_revision(row) for row in connection.execute(query)])

    async def spec(self, app_id: str, version: int) -> AppSpec:
        """What was deployed, its secrets included. Raises NotFoundError: no such version, or one that is not kept."""
        query = sa.select(revisions.c.spec, revisions.c.sealed_env).where(*_is(app_id, version))

        def question(connection: sa.Connection) -> AppSpec:
            row = connection.execute(query).first()
            if row is None:
                raise NotFoundError(f"App {app_id} has no version {version}.")
            if row.spec is None:
                raise NotFoundError(f"Version {version} of app {app_id} is no longer kept. Deploy its sources again.")
            return self._unsealed(row.spec, row.sealed_env)

        return await self._reader.run(question)

    async def prune(self, app_id: str, keep: int) -> list[int]:
        """Let go of what older revisions were made of; their entries in the history stay.

        Arguments:
            keep: how many of the newest kept ones to keep. The active one is kept in any case.

        Returns the versions that are no longer kept by this, the oldest first.
        """
        kept = sa.select(revisions.c.version).where(revisions.c.app_id == app_id, revisions.c.spec.is_not(None))

        def change(connection: sa.Connection) -> list[int]:
            active = connection.scalar(sa.select(apps.c.version).where(apps.c.id == app_id))
            found = connection.scalars(kept.order_by(revisions.c.version)).all()
            over = [version for version in found[: max(0, len(found) - keep)] if version != active]
            _let_go(connection, revisions.c.app_id == app_id, revisions.c.version.in_(over))
            return over

        return await self._writer.run(change)

    async def stop_app(self, app_id: str, now: float) -> AppRecord:
        """The app is stopped, for good: nothing of it is kept but its history. One that is stopped stays as it is.

        Raises NotFoundError.
        """

        def change(connection: sa.Connection) -> AppRecord:
            row = connection.execute(sa.select(apps).where(apps.c.id == app_id)).first()
            if row is None:
                raise NotFoundError(f"There is no app {app_id}.")
            found = _app(row)
            if found.state is AppState.STOPPED:
                return found
            values = {"state": AppState.STOPPED.value, "stopped_at": now}
            connection.execute(sa.update(apps).where(apps.c.id == app_id).values(values))
            _let_go(connection, revisions.c.app_id == app_id)
            return dataclasses.replace(found, state=AppState.STOPPED, stopped_at=now)

        return await self._writer.run(change)

    async def kept_specs(self) -> list[tuple[AppRecord, int, AppSpec]]:
        """Every kept revision with its app, secrets included: what must not be swept. By app, the newest first."""
        query = (
            sa.select(apps, revisions.c.version.label("revision"), revisions.c.spec, revisions.c.sealed_env)
            .join(revisions, revisions.c.app_id == apps.c.id)
            .where(revisions.c.spec.is_not(None))
            .order_by(apps.c.name, apps.c.id, revisions.c.version.desc())
        )

        def question(connection: sa.Connection) -> list[tuple[AppRecord, int, AppSpec]]:
            rows = connection.execute(query)
            return [(_app(row), row.revision, self._unsealed(row.spec, row.sealed_env)) for row in rows]

        return await self._reader.run(question)

    async def kept_hashes(self) -> set[str]:
        """SHA-256, in hexadecimal, of every file that a kept revision needs: its sources, and what its images copy in."""
        query = sa.select(revisions.c.spec).where(revisions.c.spec.is_not(None))

        def question(connection: sa.Connection) -> set[str]:
            return {
                sha256 for text in connection.scalars(query) for sha256 in _hashes(decode(AppSpec, json.loads(text)))
            }

        return await self._reader.run(question)

    async def add_proxy_token(self, token: ProxyToken) -> None:
        """Add a proxy token, whose id is new."""
        values = {"id": token.id, "digest": token.digest, "created_at": token.created_at}
        await self._writer.run(lambda connection: connection.execute(sa.insert(proxy_tokens).values(values)) and None)

    async def proxy_tokens(self) -> list[ProxyToken]:
        """Every proxy token, the oldest first."""
        query = sa.select(proxy_tokens).order_by(proxy_tokens.c.created_at, proxy_tokens.c.id)
        return await self._reader.run(
            lambda connection: [ProxyToken(row.id, row.digest, row.created_at) for row in connection.execute(query)]
        )

    async def delete_proxy_token(self, identifier: str) -> bool:
        """Delete a proxy token. False when there is none of that id."""
        statement = sa.delete(proxy_tokens).where(proxy_tokens.c.id == identifier)
        return await self._writer.run(lambda connection: connection.execute(statement).rowcount > 0)

    def _sealed(self, spec: AppSpec) -> dict[str, Any]:
        """The two columns of `spec`: readable without its functions' env, and that sealed."""
        bare, env = without_env(spec)
        return {"spec": _dumps(encode(bare)), "sealed_env": self._vault.seal(env) if env is not None else None}

    def _unsealed(self, text: str, sealed_env: str | None) -> AppSpec:
        spec = decode(AppSpec, json.loads(text))
        return spec if sealed_env is None else with_env(spec, self._vault.unseal(sealed_env))


def new_app_id() -> str:
    """`ap-` and 22 random letters and digits."""
    return "ap-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(22))


def _open_vault(connection: sa.Connection, path: Path) -> Vault:
    """The vault for this database; which key it is is noted at the first time, before anything is sealed with it."""
    with connection.begin():
        noted = sa.select(facts.c.value).where(facts.c.name == KEY_FINGERPRINT)
        expected = connection.scalar(noted)
        vault = Vault.open(path, expected)
        if expected is None:
            connection.execute(sa.insert(facts).values(name=KEY_FINGERPRINT, value=vault.fingerprint))
    return vault


def _overtaken(name: str, expected: int, active: int) -> str:
    seen = f"version {expected} was active" if expected else "it was not deployed"
    now = f"version {active} is" if active else "it is no longer deployed"
    return (
        f"App {name!r} was changed meanwhile: {seen} when this began, now {now}. Look at its history, then do it again."
    )


def _check_environment(connection: sa.Connection, identifier: str) -> None:
    """It may have been deleted while the app was made."""
    there = sa.select(environments.c.id).where(environments.c.id == identifier)
    if identifier != MAIN and connection.scalar(there) is None:
        raise ConflictError("The environment was deleted meanwhile.")


def _deployed(name: str, environment: str) -> sa.Select[Any]:
    return sa.select(apps).where(
        apps.c.name == name, apps.c.environment == environment, apps.c.state == AppState.DEPLOYED.value
    )


def _is(app_id: str, version: int) -> tuple[sa.ColumnElement[bool], ...]:
    return revisions.c.app_id == app_id, revisions.c.version == version


def _let_go(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> None:
    connection.execute(sa.update(revisions).where(*which).values(spec=None, sealed_env=None))


def _app(row: Any) -> AppRecord:
    state = AppState(row.state)
    return AppRecord(row.id, row.name, state, row.created_at, row.version, row.stopped_at, row.environment)


def _revision(row: Any) -> RevisionRecord:
    by = decode(Provenance, json.loads(row.provenance))
    return RevisionRecord(row.app_id, row.version, row.digest, row.deployed_at, by, bool(row.kept))


def _hashes(spec: AppSpec) -> set[str]:
    added = [
        file
        for function in spec.functions
        for step in function.image.steps
        if step.kind == "add_local"
        for file in step.args["files"]
    ]
    return {file.sha256 for file in spec.files} | {sha256 for _, sha256, *_ in added}


def _dumps(value: Any) -> str:
    # ASCII: PostgreSQL refuses a NUL and lone surrogates in text, and users' data may hold both.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
