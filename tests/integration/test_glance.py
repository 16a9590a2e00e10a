"""A glance at the database says what the store says, or nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from store_kit import BY, spec, with_store
from zygo.model import EnvironmentRecord, ProxyToken
from zygo.settings import Settings
from zygo.store.glance import glance

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.store.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a database with two deployed apps, of which one has two revisions, one that was stopped, one in an environment of its
    own, and two tokens."""
    settings = Settings(data_dir=tmp_path / "data")

    async def fill(store: Store) -> None:
        await store.add_revision("plain", "d1", spec("plain", secret=""), BY, 1.5)
        await store.add_revision("hello", "d2", spec("hello"), BY, 2.0)
        await store.add_revision("hello", "d3", spec("hello", 2, "another"), BY, 3.0)
        gone = await store.add_revision("gone", "d4", spec("gone"), BY, 4.0)
        await store.stop_app(gone.app_id, 5.0)
        await store.environments.all(0.5)
        await store.environments.add(EnvironmentRecord("en-1", "staging", "s", 6.0))
        await store.add_revision("hello", "d5", spec("hello", 3), BY, 7.0, environment="en-1")
        for number in (2, 1):
            await store.add_proxy_token(ProxyToken(f"wk-{number}", f"{number:064x}", float(number)))

    with_store(settings, fill)
    return settings


def test_it_says_what_the_store_says(settings: Settings) -> None:
    seen = glance(settings)
    assert seen is not None

    async def compare(store: Store) -> None:
        assert [record for record, _ in seen.apps] == await store.apps()
        for record, found in seen.apps:
            assert found == await store.spec(record.id, record.version)
        assert list(seen.environments) == await store.environments.all(0.0)
        assert list(seen.tokens) == await store.proxy_tokens()

    with_store(settings, compare)
    assert [(record.name, record.environment) for record, _ in seen.apps] == [
        ("hello", "en-1"),
        ("hello", "main"),
        ("plain", "main"),
    ]
    assert [record.id for record in seen.environments] == ["main", "en-1"]
    assert seen.apps[1][1].functions[0].env["PASSWORD"] == "another"


def test_it_sees_what_a_server_that_was_killed_had_in_its_log(settings: Settings, tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys; sys.path.insert(0, 'tests')\n"
        "from store_kit import BY, spec; from zygo.store.store import Store; from zygo.settings import Settings\n"
        "async def main():\n"
        "    store = await Store.open(Settings(data_dir=sys.argv[1]))\n"
        "    await store.add_revision('late', 'd', spec('late'), BY, 9.0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(settings.data_dir)], timeout=60, check=False)
    assert done.returncode == -9
    seen = glance(settings)
    assert seen is not None
    assert [record.name for record, _ in seen.apps] == ["hello", "hello", "late", "plain"]


@pytest.mark.parametrize("what", ["no file", "an older schema", "no database", "locked", "no key", "another kind"])
def test_what_it_cannot_say_is_left_to_the_store(settings: Settings, what: str) -> None:
    path = settings.data_dir / "zygo.db"
    holder = sqlite3.connect(path, isolation_level=None)
    with closing(holder):
        if what == "no file":
            settings = settings.replace(data_dir=settings.data_dir / "other")
        elif what == "an older schema":
            holder.execute("UPDATE zygo_version SET version_num = '0001'")
        elif what == "no database":
            holder.close()
            path.write_bytes(b"no database" * 100)
        elif what == "locked":
            holder.execute("PRAGMA journal_mode = DELETE")
            holder.execute("BEGIN EXCLUSIVE")
        elif what == "no key":
            (settings.data_dir / "store.key").unlink()
        else:
            settings = settings.replace(database_url="postgresql:///nowhere")
        assert glance(settings) is None


def test_it_needs_no_sqlalchemy() -> None:
    program = (
        "import sys, zygo.server.main, zygo.server.parts; print('sqlalchemy' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False False\n"
