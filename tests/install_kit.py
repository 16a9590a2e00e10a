"""A desk at which `zygo server install` is tried without a systemd."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from zygo.cli.install import Service
from zygo.cli.output import Output

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Desk:
    """A service in a folder, a `systemctl` that notes what it is told, and an output."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, running: bool = True, status: int = 0) -> None:
        self.notes = folder / "told"
        binary = folder / "bin"
        binary.mkdir()
        (binary / "systemctl").write_text(
            f'#!/bin/sh\necho "$@" >> {self.notes}\n'
            f'[ {status} = 0 ] || [ "$1" != enable ] || {{ echo no way >&2; exit {status}; }}\n'
        )
        (binary / "systemctl").chmod(0o755)
        (binary / "useradd").write_text(f'#!/bin/sh\necho useradd "$@" >> {self.notes}\n')
        (binary / "useradd").chmod(0o755)
        monkeypatch.setenv("PATH", f"{binary}:{os.environ['PATH']}")
        self.service = Service(False, folder / "units", folder / "etc" / "zygo.env", running)
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.out = Output(self.stdout, self.stderr)

    def told(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []
