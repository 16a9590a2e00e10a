"""Named secrets: kept sealed, by environment; their values go into functions' environments when a revision is made ready.

A revision holds the names alone. So new containers of the same revision (a rollover, a restart of the server) have the values
of that time, and a deploy with other values in the same secrets is a change: `stamped` says which values it saw.
"""

from __future__ import annotations

import re
import secrets as random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError, NotFoundError
from zygo.model import MAIN, SecretRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.model import AppSpec, FunctionSpec, SecretUse
    from zygo.server.environments import Environment, Environments
    from zygo.store.environments import EnvironmentStore

MAX_BYTES = 64 * 1024
"""Of the names and values of one secret: a variable of more than 128 KiB keeps every process from starting."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Secrets:
    """The secrets of every environment."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    @property
    def _store(self) -> EnvironmentStore:
        return self._environments.store

    async def list(self, environment: Environment) -> list[dict[str, Any]]:
        """Every secret without its values: `name`, `keys`, `created_at`, `updated_at`."""
        return [shown(record) for record in await self._store.secrets(environment.id)]

    async def put(
        self, environment: Environment, name: str, values: Mapping[str, Any], *, replace: bool
    ) -> SecretRecord:
        """Make a secret, or give it other values. Raises InvalidError, and AlreadyExistsError unless `replace`."""
        _check(name, values)
        now = time.time()
        record = SecretRecord(environment.id, name, tuple(sorted(values)), random.token_hex(8), now, now)
        await self._store.put_secret(record, values, replace=replace)
        return record

    async def delete(self, environment: Environment, name: str) -> bool:
        """Delete a secret; False when there is none. What runs with its values goes on with them."""
        return await self._store.delete_secret(environment.id, name)

    async def stamped(self, environment: Environment, spec: AppSpec) -> AppSpec:
        """`spec` with what its secrets hold now noted, so that other values are another state of the app.

        Raises NotFoundError for a secret, or a key of it, that is not there.
        """
        found = _Found(self, environment)
        functions = []
        for function in spec.functions:
            uses = [replace(use, stamp=(await found.of(use))[0].stamp) for use in function.secrets]
            functions.append(replace(function, secrets=tuple(uses)))
        return replace(spec, functions=tuple(functions))

    async def filled(self, environment: Environment, spec: AppSpec) -> AppSpec:
        """`spec` with the values in its functions' env. For what runs, and never to be stored. Raises as `stamped` does."""
        found = _Found(self, environment)
        functions = []
        for function in spec.functions:
            if function.secrets:
                await self._environments.opened.wait()
            values = [(use, (await found.of(use))[1]) for use in function.secrets]
            functions.append(replace(function, env=_merged(function, values)) if values else function)
        return replace(spec, functions=tuple(functions))


class _Found:
    """The secrets that one spec uses, each read once."""

    def __init__(self, secrets: Secrets, environment: Environment) -> None:
        self._secrets = secrets
        self._own = environment
        self._read: dict[tuple[str, str], tuple[SecretRecord, dict[str, str]]] = {}

    async def of(self, use: SecretUse) -> tuple[SecretRecord, dict[str, str]]:
        environment = self._secrets._environments.named(use.environment) if use.environment else self._own
        key = (environment.id, use.name)
        if key not in self._read:
            found = await self._secrets._store.secret(*key)
            if found is None:
                raise NotFoundError(await self._missing(environment, use))
            self._read[key] = found
        record, values = self._read[key]
        lacking = [name for name in use.required_keys if name not in values]
        if lacking:
            more = " ".join(f"{name}=..." for name in [*record.keys, *lacking])
            raise NotFoundError(
                f"Secret {use.name!r} lacks {', '.join(lacking)}{_place(environment)}, which required_keys= names. "
                f"Give it all its values anew: {_command(environment, use.name, more)} --force"
            )
        return record, values

    async def _missing(self, environment: Environment, use: SecretUse) -> str:
        keys = " ".join(f"{name}=..." for name in use.required_keys) or "KEY=VALUE"
        known = ", ".join(record.name for record in await self._secrets._store.secrets(environment.id))
        there = f" There are: {known}." if known else ""
        return (
            f"There is no secret {use.name!r}{_place(environment)}.{there} "
            f"Make it with: {_command(environment, use.name, keys)}"
        )


def _check(name: str, values: Mapping[str, Any]) -> None:
    """Raises InvalidError, which shows no value."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:80]!r} is not a name of a secret: letters, digits, dashes, dots and underscores, at most 63."
        )
    if not values:
        raise InvalidError(f"Secret {name!r} has no values. Give some: zygo secret create {name} KEY=VALUE")
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            raise InvalidError(
                f"Secret {name!r}: {key[:80]!r} is not the name of an environment variable (A-Z, 0-9 and _)."
            )
        if not isinstance(value, str) or "\0" in value:
            raise InvalidError(f"Secret {name!r}: the value of {key} is not a text.")
    size = sum(len(key) + len(value.encode("utf-8", "surrogatepass")) for key, value in values.items())
    if size > MAX_BYTES:
        raise InvalidError(
            f"Secret {name!r} has {size:,} bytes, at most {MAX_BYTES:,} are possible. Put large values into files of the image."
        )


def _merged(function: FunctionSpec, values: list[tuple[SecretUse, dict[str, str]]]) -> dict[str, str]:
    """In the order of `secrets=`: a later one wins, and so does env=."""
    env = dict(function.env)
    for use, found in values:
        env.update({key: value for key, value in found.items() if key not in function.env or key in use.over})
    return env


def _place(environment: Environment) -> str:
    return "" if environment.id == MAIN else f" in the environment {environment.name!r}"


def _command(environment: Environment, name: str, values: str) -> str:
    place = "" if environment.id == MAIN else f" --env {environment.name}"
    return f"zygo secret create{place} {name} {values}"


def shown(record: SecretRecord) -> dict[str, Any]:
    """For commands: the names of its values, and nothing of them."""
    return {
        "name": record.name,
        "keys": list(record.keys),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
