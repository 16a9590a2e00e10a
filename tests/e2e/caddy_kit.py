"""A Caddy of one's own, with its internal authority, in front of a place's server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

from zygo.cli.caddy import Caddy
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, for TCP and UDP."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            tcp = stack.enter_context(socket.socket())
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                found.append(port)
        return found


class RunningCaddy:
    """Caddy with the shipped configuration. A context manager; leaving ends it."""

    def __init__(
        self, folder: Path, *, gateway: int, ask: int, http: int, https: int, hosts: Mapping[str, int] | None = None
    ) -> None:
        self.folder = folder
        self.port = https
        self.storage = folder / "storage"
        self.authority = self.storage / "pki" / "authorities" / "local" / "root.crt"
        self.file = folder / "Caddyfile"
        wanted = Caddy(
            gateway,
            ask,
            hosts or {},
            http=http,
            https=https,
            storage=self.storage,
            internal=True,
            sites=str(folder / "sites" / "*.caddy"),
        )
        self.file.write_text(wanted.text())

    def __enter__(self) -> RunningCaddy:
        home = {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder), "HOME": str(self.folder)}
        command = [str(shutil.which("caddy")), "run", "--adapter", "caddyfile", "--config", str(self.file)]
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            command, env={**os.environ, **home}, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        until(self._up, what="Caddy")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._log.close()

    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def client(self) -> ssl.SSLContext:
        """The context of a client that trusts this Caddy's authority."""
        return ssl.create_default_context(cafile=str(self.authority))

    def has_certificate(self, name: str) -> bool:
        """Whether it got one for `name`."""
        return any(path.name == name for path in self.storage.glob("certificates/*/*"))

    def _up(self) -> bool:
        assert self._process.poll() is None, self.log()
        with socket.socket() as sock:
            return self.authority.exists() and sock.connect_ex(("127.0.0.1", self.port)) == 0
