"""When a server's command is put into a scope of systemd's; a real one is tried in integration/test_systemd_scope.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zygo.sdk.delegation import scope_prefix

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("answer", "wanted"), [("exit 0", True), ("exit 1", False)])
def test_a_scope_is_used_only_when_systemd_grants_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, wanted: bool
) -> None:
    program = tmp_path / "systemd-run"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert bool(scope_prefix(tmp_path, tmp_path)) is wanted
    assert scope_prefix(tmp_path / "cg1", tmp_path) == [], "version 1"
    assert scope_prefix(tmp_path, tmp_path / "absent") == [], "no systemd"
