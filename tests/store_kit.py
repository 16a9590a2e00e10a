"""What the tests of the store share: an app's spec that uses every field, and a way to look into the database itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from zygo.model import (
    AppSpec,
    FunctionSpec,
    ImageSpec,
    ImageStep,
    Provenance,
    Resources,
    ScalePolicy,
    SourceFile,
    WebSpec,
)
from zygo.store.store import Store
from zygo.store.tables import facts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from zygo.settings import Settings

T = TypeVar("T")

BY = Provenance("0.1.0", "ada", commit="0123abc", dirty=True, tag="spring", rollback_of=None)
SECRET = "correct horse battery staple"


def spec(name: str = "hello", number: int = 1, secret: str = SECRET) -> AppSpec:
    """A spec with something in every field; those of two numbers differ in everything that a sweep looks at."""
    added = {"copy": True, "files": [["/opt/model.bin", f"{number:02x}" * 32, 0o644], ["/opt/run", "ee" * 32, 0o755]]}
    image = ImageSpec(
        "3.12",
        steps=(
            ImageStep("pip_install", {"packages": [f"fastapi=={number}"], "find_links": None, "pre": False}),
            ImageStep("add_local", added),
            ImageStep("env", {"vars": {"MODE": "fast"}}),
        ),
    )
    web = WebSpec("fastapi_endpoint", "POST", "/x", True, "label", True, ("a.example.com",), "?x=1")
    first = FunctionSpec(
        name="square",
        module="hello",
        qualname="square",
        image=image,
        web=web,
        # What JSON and PostgreSQL stumble over: a NUL cannot be in an environment, but line ends and lone surrogates can.
        env={"PASSWORD": secret, "ODD": "line\nä€𝄞\udcff"},
        policy=ScalePolicy(1, 10, 2, 30.0, 4, 2),
        resources=Resources(0.5, 1.0, 128, 256, None),
        timeout=10.0,
        startup_timeout=20.0,
        block_network=True,
        is_async=True,
        line=7,
    )
    second = FunctionSpec("plain", "hello", "plain", ImageSpec("3.11"))
    files = (
        SourceFile("/root/hello.py", f"{number:02x}" * 31 + "aa", 120),
        SourceFile("/root/odd\x00", "bb" * 32, 1, 0o600),
    )
    return AppSpec(name, "hello", "app", (first, second), files, ("fastapi", "numpy"), ("a warning with ' and \"",))


@contextlib.asynccontextmanager
async def opened(settings: Settings, patience: float = 15.0) -> AsyncIterator[Store]:
    """The store, closed afterwards."""
    store = await Store.open(settings, patience=patience)
    try:
        yield store
    finally:
        await store.close()


def with_store(settings: Settings, use: Callable[[Store], Awaitable[T]], patience: float = 15.0) -> T:
    """What `use` returns, on a loop of its own."""

    async def life() -> T:
        async with opened(settings, patience) as store:
            return await use(store)

    return asyncio.run(life())


def write(store: Store, change: Callable[[sa.Connection], T]) -> Awaitable[T]:
    """Any change, as the store's own methods make them."""
    return store._writer.run(change)


def put_fact(name: str, value: str = "") -> Callable[[sa.Connection], str]:
    """A tiny change; IntegrityError when the name is there."""

    def change(connection: sa.Connection) -> str:
        connection.execute(sa.insert(facts).values(name=name, value=value))
        return name

    return change


def fact_names(store: Store) -> Awaitable[set[str]]:
    """The names that were put."""
    return store._reader.run(lambda connection: set(connection.scalars(sa.select(facts.c.name))) - {"key_fingerprint"})


def everything(store: Store) -> Awaitable[str]:
    """Every value in every table, as text."""

    def question(connection: sa.Connection) -> str:
        tables: list[Any] = [connection.execute(sa.select(table)).all() for table in facts.metadata.sorted_tables]
        return repr(tables)

    return store._reader.run(question)
