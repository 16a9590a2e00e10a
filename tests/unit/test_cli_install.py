"""`zygo server install`: the files, what is told to systemd, and what is said where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from install_kit import Desk
from zygo.cli.install import Service, install, uninstall, unit_of
from zygo.cli.unit import Unit
from zygo.errors import ExecutionError

if TYPE_CHECKING:
    from pathlib import Path


UNIT = Unit(("/usr/bin/python3", "-m", "x"), False, {"ZYGO_PORT": "80", "ZYGO_TOKEN": "s3cret"})


def test_it_writes_enables_and_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch)
    for _ in range(2):  # again, as after a change of settings
        assert install(desk.service, UNIT, desk.out, start=True) == 0
    assert desk.told() == ["daemon-reload", "enable zygo.service", "restart zygo.service"] * 2
    assert desk.service.path.read_text() == UNIT.text()
    assert desk.service.path.stat().st_mode & 0o777 == 0o644
    assert desk.service.secrets_file.read_text() == 'ZYGO_TOKEN="s3cret"\n'
    assert desk.service.secrets_file.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in desk.stdout.getvalue() + desk.stderr.getvalue() + desk.service.path.read_text()
    assert uninstall(desk.service, desk.out) == 0
    assert desk.told()[6:] == ["disable --now zygo.service", "daemon-reload"]
    assert not desk.service.path.exists()
    assert not desk.service.secrets_file.exists()
    assert uninstall(desk.service, desk.out) == 0
    assert "There is no " in desk.stdout.getvalue()


def test_not_started_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch)
    assert install(desk.service, UNIT, desk.out, start=False) == 0
    assert desk.told() == ["daemon-reload", "enable zygo.service"]
    assert "Start it with: systemctl start zygo.service" in desk.stdout.getvalue()


def test_without_a_running_systemd_the_commands_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch, running=False)
    assert install(desk.service, UNIT, desk.out, start=True) == 0
    assert desk.service.path.exists()
    assert desk.told() == []
    assert "systemd does not run here" in desk.stderr.getvalue()
    assert "  systemctl restart zygo.service\n" in desk.stdout.getvalue()


def test_what_systemd_refuses_is_told_with_what_was_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, monkeypatch, status=1)
    assert install(desk.service, UNIT, desk.out, start=True) == 1
    assert "systemctl enable zygo.service failed" in desk.stderr.getvalue()
    assert "no way" in desk.stderr.getvalue()
    assert "Not done: systemctl restart zygo.service" in desk.stdout.getvalue()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch)
    (tmp_path / "units").write_text("a file")
    with pytest.raises(ExecutionError, match=r"zygo.service cannot be written"):
        install(desk.service, UNIT, desk.out, start=True)


def test_the_unit_has_the_settings_that_are_set_and_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZYGO_PORT", "8080")
    monkeypatch.setenv("ZYGO_DATA_DIR", "data")
    unit = unit_of(desk.service, {"UV_INDEX_URL": "https://packages.example.com", "HOME": "/root"})
    assert unit.environment == {
        "ZYGO_PORT": "8080",
        "ZYGO_DATA_DIR": str(tmp_path / "data"),
        "UV_INDEX_URL": "https://packages.example.com",
    }
    assert unit.command == (sys.executable, "-P", "-m", "zygo.server.main", "--foreground")
    own = Service(True, tmp_path, tmp_path / "env", running=True)
    assert own.command("start", "x") == ["systemctl", "--user", "start", "x"]
