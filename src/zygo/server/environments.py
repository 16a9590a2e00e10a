"""The environments of this server: spaces of names for apps and secrets, each with hostnames of its own.

`Environment` is shared by everything that is live in it, so that a change of its name or suffix is seen everywhere at once.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError, NotFoundError
from zygo.model import MAIN, EnvironmentRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zygo.store.environments import EnvironmentStore

MAX_SUFFIX = 16
"""Characters of a web suffix: with the longest workspace some of the 63 of a hostname's first part are left for the label."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(eq=False)
class Environment:
    """One environment. `id` never changes; `main` is that of the first one."""

    id: str = MAIN
    name: str = MAIN
    web_suffix: str = ""
    created_at: float = 0.0

    def source(self, workspace: str) -> str:
        """The first part of its hostnames, before the two dashes."""
        return f"{workspace}-{self.web_suffix}" if self.web_suffix else workspace

    @property
    def record(self) -> EnvironmentRecord:
        """As it is stored."""
        return EnvironmentRecord(self.id, self.name, self.web_suffix, self.created_at)


class Environments:
    """All of them: the first one alone, until `show` or `open` tells of more."""

    store: EnvironmentStore

    def __init__(self) -> None:
        self._all = {MAIN: Environment()}
        self.lock = asyncio.Lock()
        """Held while one is changed or deleted."""
        self.opened = asyncio.Event()
        """Set once `store` is there: apps may wake before."""

    def show(self, records: Iterable[EnvironmentRecord]) -> None:
        """These are there. What is known already stays the same object."""
        for record in records:
            known = self._all.setdefault(record.id, Environment(record.id))
            known.name, known.web_suffix, known.created_at = record.name, record.web_suffix, record.created_at

    async def open(self, store: EnvironmentStore) -> None:
        """The store is open: from now on environments can be changed."""
        self.store = store
        self.show(await store.all(time.time()))
        self.opened.set()

    @property
    def all(self) -> list[Environment]:
        """Every environment, by name."""
        return sorted(self._all.values(), key=lambda environment: environment.name)

    def get(self, identifier: str) -> Environment:
        """The one with that id. Raises NotFoundError."""
        found = self._all.get(identifier)
        if found is None:
            raise NotFoundError(f"There is no environment with the id {identifier[:40]!r}.")
        return found

    def named(self, name: str) -> Environment:
        """The one called `name`; for "" the first one, which has always been there. Raises NotFoundError."""
        if not name:
            return self._all[MAIN]
        for environment in self._all.values():
            if environment.name == name:
                return environment
        known = ", ".join(environment.name for environment in self.all)
        raise NotFoundError(
            f"There is no environment {name[:64]!r}. There are: {known}. Make it with: zygo environment create {name[:64]}"
        )

    async def create(self, name: str, web_suffix: str | None) -> Environment:
        """A new environment; without a suffix its name is one, as far as a hostname can hold it.

        Raises InvalidError, AlreadyExistsError, ConflictError.
        """
        check_name(name)
        suffix = suffix_of(name) if web_suffix is None else check_suffix(web_suffix)
        made = Environment(f"en-{secrets.token_hex(8)}", name, suffix, time.time())
        await self.store.add(made.record)
        self._all[made.id] = made
        return made

    async def change(self, environment: Environment, name: str | None, web_suffix: str | None) -> None:
        """Give it another name or suffix. Raises as `create` does. The caller holds `lock`."""
        wanted = replace(environment.record)
        if name is not None:
            wanted = replace(wanted, name=check_name(name))
        if web_suffix is not None:
            wanted = replace(wanted, web_suffix=check_suffix(web_suffix))
        await self.store.replace(wanted)
        environment.name, environment.web_suffix = wanted.name, wanted.web_suffix

    async def forget(self, environment: Environment) -> None:
        """Delete one in which nothing is live. Raises ConflictError. The caller holds `lock`."""
        await self.store.delete(environment.id)
        self._all.pop(environment.id, None)


def shown(environment: Environment) -> dict[str, Any]:
    """For commands."""
    return {
        "name": environment.name,
        "web_suffix": environment.web_suffix,
        "created_at": environment.created_at,
        "default": environment.id == MAIN,
    }


def check_name(name: str) -> str:
    """`name` when an environment may be called so. Raises InvalidError."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:80]!r} is not a name of an environment: letters, digits, dashes, dots and underscores, at most 64, a "
            f"letter or digit first."
        )
    return name


def check_suffix(suffix: str) -> str:
    """`suffix` when it may be part of a hostname; "" for none. Raises InvalidError that shows one that may."""
    if suffix and (not _SUFFIX.fullmatch(suffix) or len(suffix) > MAX_SUFFIX):
        raise InvalidError(
            f"{suffix[:80]!r} is not a web suffix: a-z, 0-9 and single dashes inside, at most {MAX_SUFFIX}. "
            f"Use {suffix_of(suffix)!r}."
        )
    return suffix


def suffix_of(text: str) -> str:
    """The suffix that is nearest to `text`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_SUFFIX].strip("-") or "x"
