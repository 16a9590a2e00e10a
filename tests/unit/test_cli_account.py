"""The service's own user: what stands in its way is found before anything is changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from install_kit import Desk
from zygo.cli import account
from zygo.cli.account import Account
from zygo.cli.install import Service, account_of, install, uninstall, unit_of
from zygo.errors import ExecutionError, InvalidError

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of several users need root")


def test_whose_service_it_is(tmp_path: Path) -> None:
    machines = Service(False, tmp_path, tmp_path / "env", running=True)
    own = Service(True, tmp_path, tmp_path / "env", running=True)
    assert account_of(machines, None) == "zygo"
    assert account_of(machines, "apps") == "apps"
    assert account_of(machines, "root") == ""
    assert account_of(own, None) == ""
    with pytest.raises(InvalidError, match="Yours runs as you"):
        account_of(own, "zygo")
    with pytest.raises(InvalidError, match="not the name of a user"):
        account_of(machines, "a b")


def test_the_unit_has_the_users_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZYGO_DATA_DIR", "ZYGO_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    service = Service(False, tmp_path, tmp_path / "env", running=True)
    unit = unit_of(service, {"UV_CACHE_DIR": "/root/cache", "UV_INDEX_URL": "https://p.example"}, user="zygo")
    assert unit.environment == {
        "ZYGO_DATA_DIR": "/var/lib/zygo",
        "ZYGO_RUNTIME_DIR": "/run/zygo",
        "UV_INDEX_URL": "https://p.example",
    }
    lines = unit.text().splitlines()
    for line in ("User=zygo", "RuntimeDirectory=zygo", "TasksMax=80%", "MemoryMax=90%", "Delegate=yes"):
        assert line in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" not in lines
    monkeypatch.setenv("ZYGO_TLS_PORT", "443")
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit_of(service, {}, user="zygo").text().splitlines()
    assert "User=" not in unit_of(service, {}).text()


@needs_root
def test_what_the_user_can_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    for part in tmp_path.parents:
        if part.stat().st_uid == 0 and part.name.startswith(("pytest", "popen-")):
            part.chmod(0o711)
    file = tmp_path / "closed" / "key.pem"
    file.parent.mkdir(mode=0o700)
    file.touch(0o644)
    stranger = Account("stranger", NOBODY, NOBODY, frozenset({NOBODY}))
    assert stranger.reads(file) == file.parent
    file.parent.chmod(0o711)
    assert stranger.reads(file) is None
    file.chmod(0o640)
    assert stranger.reads(file) == file
    os.chown(file, 0, NOBODY)
    assert stranger.reads(file) is None
    assert stranger.reads(tmp_path / "not there") is None
    assert stranger.reads(Path(sys.executable)) in (None, *Path(sys.executable).resolve().parents)


def places(folder: Path) -> dict[str, str]:
    return {"ZYGO_DATA_DIR": str(folder / "data"), "ZYGO_RUNTIME_DIR": str(folder / "run")}


@needs_root
def test_data_of_a_root_server_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "reads", lambda self, path: None)
    stranger = Account("zygo", NOBODY, NOBODY)
    account.refuse(stranger, places(tmp_path), "again")  # nothing there yet
    (tmp_path / "data").mkdir()
    account.refuse(stranger, places(tmp_path), "again")  # nothing in it
    (tmp_path / "data" / "zygo.db").touch()
    with pytest.raises(ExecutionError) as found:
        account.refuse(stranger, places(tmp_path), "again")
    assert f"sudo chown -R -h zygo: {tmp_path}/data\n    again\n" in str(found.value)
    assert "again --user root" in str(found.value)
    assert "useradd" not in str(found.value)
    with pytest.raises(ExecutionError, match="sudo useradd --system"):
        account.refuse(Account("zygo"), places(tmp_path), "again")
    os.chown(tmp_path / "data", NOBODY, NOBODY)
    account.refuse(stranger, places(tmp_path), "again")


def test_files_that_the_user_cannot_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = {"/etc/letsencrypt/key.pem": Path("/etc/letsencrypt")}
    monkeypatch.setattr(Account, "reads", lambda self, path: closed.get(str(path)))
    wanted = {**places(tmp_path), "ZYGO_TLS_KEY": "/a.pem,/etc/letsencrypt/key.pem"}
    with pytest.raises(
        ExecutionError, match=r"ZYGO_TLS_KEY=/etc/letsencrypt/key\.pem: /etc/letsencrypt is closed to the user"
    ):
        account.refuse(Account("zygo"), wanted, "again")
    closed[sys.prefix] = Path("/root")
    with pytest.raises(
        ExecutionError, match=r"/root is closed to the user zygo(.|\n)*UV_TOOL_DIR=/opt/zygo(.|\n)*--user root"
    ):
        account.refuse(Account("zygo"), wanted, "again")


@needs_root
def test_it_makes_the_user_and_says_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in places(tmp_path).items():
        monkeypatch.setenv(name, value)
    desk = Desk(tmp_path, monkeypatch)
    made = iter([Account("zygo"), Account("zygo", NOBODY, NOBODY)])
    monkeypatch.setattr(Account, "of", lambda name: next(made))
    unit = unit_of(desk.service, {}, user="zygo")
    assert install(desk.service, unit, desk.out, start=True) == 0
    data = tmp_path / "data"
    assert (
        desk.told()[0]
        == f"useradd --system --user-group --home-dir {data} --no-create-home --shell /usr/sbin/nologin zygo"
    )
    assert (data.stat().st_uid, data.stat().st_mode & 0o777) == (NOBODY, 0o700)
    assert uninstall(desk.service, desk.out) == 0
    said = " ".join(desk.stdout.getvalue().split())
    assert (
        f"The user zygo and {data}, with images, apps and logs, stay. To remove them: sudo rm -r {data}; sudo userdel zygo"
        in said
    )
    assert data.exists()
