"""Write the dumps of the current schema: `PYTHONPATH=tests python tests/upgrade/dump.py`. See test_upgrade.py for when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path

from postgres_kit import Cluster
from store_kit import BY, opened, spec
from upgrade.test_upgrade import FOLDER, contents
from zygo.model import AuditEntry, CallState, EnvironmentRecord, SecretRecord, TokenRecord
from zygo.settings import Settings
from zygo.store.calls import NewCall, Outcome, Payload
from zygo.store.schema import HEAD


async def fill(settings: Settings) -> object:
    """A history with everything in it: kept and pruned revisions, a stopped app, a name used again; calls with and
    without results."""
    async with opened(settings) as store:
        old = await store.add_revision("hello", "d0", spec(number=9), BY, 1.5)
        await store.stop_app(old.app_id, 2.5)
        for number in range(1, 5):
            made = await store.add_revision("hello", f"d{number}", spec(number=number), BY, 10.0 + number)
        await store.prune(made.app_id, 2)
        await store.add_revision("another", "d5", spec("another", 5), BY, 20.0)
        one = NewCall("fc-one", made.app_id, "hello", "plain", "fu-1", "3.11.2", (Payload(b"\x00one"),))
        many = NewCall(
            "fc-many", "s-gone", "dev", "plain", "fu-2", "3.9.1", tuple(Payload(b"%d" % n) for n in range(3))
        )
        await store.calls.add([one, many], 30.0, 1)
        outcomes = [
            Outcome(2, "fc-many", CallState.SUCCEEDED, "v", Payload(b"\xffresult")),
            Outcome(3, "fc-many", CallState.FAILED, "e", Payload(None, "ab" * 32)),
            Outcome(4, "fc-many", CallState.PENDING, failures=1, losses=2, due_at=50.0),
        ]
        await store.calls.record(outcomes, 40.0)
        await store.access.add_token(
            TokenRecord("0a1b", "ci", ("read", "call"), "ab" * 32, 1.5, "local:ada", 9e9, 2.5, "cd" * 32, 3.5)
        )
        await store.access.add_audit(
            AuditEntry("au-1", 4.5, "ci", "0a1b", "10.0.0.1", "deploy", "hello", "published", '{"version": 2}')
        )
        await store.environments.all(0.5)
        await store.environments.add(EnvironmentRecord("en-1", "staging", "stage", 5.5))
        await store.add_revision("hello", "d6", spec(number=6), BY, 60.0, environment="en-1")
        secret = SecretRecord("en-1", "database", ("PASSWORD", "USER"), "s1", 6.5, 7.5)
        await store.environments.put_secret(secret, {"PASSWORD": "in the dump", "USER": "ä\ud800"}, replace=False)
        return await contents(store)


def main() -> None:
    """Both databases, with one key; the second is filled with the first one's key beside it."""
    cluster = Cluster.start()
    assert cluster is not None, "PostgreSQL is not installed"
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(cluster):
        data = Path(folder)
        expected = asyncio.run(fill(Settings(data_dir=data)))
        (FOLDER / f"{HEAD}.sqlite.json").write_text(json.dumps(expected, indent=1) + "\n")
        with contextlib.closing(sqlite3.connect(data / "zygo.db")) as connection:
            (FOLDER / f"{HEAD}.sqlite.sql").write_text("\n".join(connection.iterdump()) + "\n")
        url = cluster.create_database()
        expected = asyncio.run(fill(Settings(data_dir=data, database_url=url)))
        (FOLDER / f"{HEAD}.postgres.json").write_text(json.dumps(expected, indent=1) + "\n")
        # Lines with a backslash are psql's.
        lines = [line for line in cluster.dump(url).splitlines() if line and not line.startswith(("--", "\\"))]
        (FOLDER / f"{HEAD}.postgres.sql").write_text("\n".join(lines) + "\n")
        shutil.copyfile(data / "store.key", FOLDER / f"{HEAD}.key")


if __name__ == "__main__":
    main()
