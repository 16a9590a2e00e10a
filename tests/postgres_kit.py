"""A PostgreSQL of the tests' own: a private cluster on a unix socket, from Debian's `postgresql` package.

    cluster = Cluster.start()           # initdb and start, about 2 s; None when PostgreSQL is not installed
    url = cluster.create_database()     # a fresh database; for ZYGO_DATABASE_URL
    cluster.sql("SELECT ...", url)      # rows, on a connection of its own
    cluster.stop(); cluster.start_again()
    cluster.close()                     # stopped, and removed from the disk

As root its processes run as the user `postgres`, or `nobody`. It listens on no port. The fixture
`postgres` in conftest.py is the session's, and skips without one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from zygo.testing.harness import until

SECONDS = 60
PORT = 5432
"""Part of the socket's name only."""


def binaries() -> Path | None:
    """The directory with the programs of the newest PostgreSQL here, None without one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        found = [Path(on_path).resolve().parent]
    return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, default=None)


class Cluster:
    """See the module. Not for several threads."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._numbers = itertools.count(1)
        self._owner = _unprivileged_user()
        self._server: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="zygo-pg-", dir="/tmp"))
        self._data = self.folder / "data"
        if self._owner is not None:
            os.chown(self.folder, self._owner.pw_uid, self._owner.pw_gid)

    @classmethod
    def start(cls) -> Cluster | None:
        """A running cluster, None when PostgreSQL is not installed."""
        programs = binaries()
        if programs is None:
            return None
        cluster = cls(programs)
        try:
            cluster._run(
                "initdb", "-D", cluster._data, "-U", "zygo", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
            )
            cluster.start_again()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def start_again(self) -> None:
        """Start the processes, after `stop`; returns when connections are accepted."""
        options = {"listen_addresses": "", "unix_socket_directories": self.folder, "port": PORT, "max_connections": 50}
        # Processes are killed here, not machines: what they have written the kernel has. A database is 300 files to sync.
        options["fsync"] = "off"
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        # Our own child and not pg_ctl's, whose orphan nobody might reap.
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **self._user(),
            )
        until(self._accepts, SECONDS, "PostgreSQL accepting connections")

    def _accepts(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, f"PostgreSQL ended:\n{self.log()}"
        with contextlib.suppress(psycopg.OperationalError):
            self.sql("SELECT 1")
            return True
        return False

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the processes. SIGINT: connections are ended; SIGQUIT: at once, which leaves it to be recovered."""
        assert self._server is not None
        self._server.send_signal(number)
        self._server.wait(SECONDS)

    def create_database(self) -> str:
        """The URL of a new, empty database. It has a password, which the server does not ask for."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, folder: Path | None = None) -> str:
        """The URL of a database, reached through the socket in `folder` if it is not the cluster's own."""
        return f"postgresql://zygo:open-sesame@/{database}?host={folder or self.folder}&port={PORT}"

    def sql(self, statement: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, or of several without rows."""
        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self, url: str) -> str:
        """The database as SQL, with INSERT for each row."""
        return self._run("pg_dump", "--inserts", "--no-owner", "--no-privileges", "-d", url)

    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def close(self) -> None:
        """Stop it and remove what is left. May be called twice."""
        if self._server is not None and self._server.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _user(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: object) -> str:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            timeout=SECONDS,
            check=False,
            **self._user(),
        )
        text: str = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, f"{program} failed ({done.returncode}): {text}"
        return text


def _unprivileged_user() -> pwd.struct_passwd | None:
    """As whom to run; PostgreSQL refuses to run as root. None: as whom the tests run."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("there is neither a user postgres nor nobody to run PostgreSQL as")
