"""The systemd unit: systemd accepts it, it says what it must, and secrets are not in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from zygo.cli.unit import Unit, is_secret, is_temporary
from zygo.errors import InvalidError

ODD = {
    "ZYGO_PORT": "80",
    "ZYGO_DATA_DIR": '/srv/my data/100% "mine" \\ $HOME',
    "UV_INDEX_URL": 'https://me:pa$$w`o"r\\d%@packages.example.com/simple',
}
COMMAND = ("/opt/my apps/100%/$x/bin/python", "-P", "-m", "zygo.server.main", "--foreground")


def test_the_text_of_a_system_unit() -> None:
    text = Unit(COMMAND, user=False, environment=ODD, grace=30.0).text()
    assert 'ExecStart="/opt/my apps/100%%/$x/bin/python" -P -m zygo.server.main --foreground\n' in text
    assert "\nEnvironment=ZYGO_PORT=80\n" in text
    assert '\nEnvironment="ZYGO_DATA_DIR=/srv/my data/100%% \\"mine\\" \\\\ $HOME"\n' in text
    assert "\nEnvironmentFile=/etc/zygo/zygo.env\n" in text
    assert "pa$$" not in text
    lines = (
        "Type=notify",
        "Restart=always",
        "KillMode=mixed",
        "TasksMax=infinity",
        "Delegate=yes",
        "TimeoutStopSec=45",
    )
    for line in (*lines, "After=network-online.target", "WantedBy=multi-user.target"):
        assert f"\n{line}\n" in text


def test_the_text_of_a_users_unit() -> None:
    text = Unit(COMMAND, user=True).text()
    assert "WantedBy=default.target\n" in text
    assert "network-online" not in text, "which the manager of a user does not know"
    assert "Environment" not in text


def test_secrets_go_to_a_file_of_their_own_and_what_no_unit_can_hold_is_refused() -> None:
    unit = Unit(COMMAND, user=False, environment=ODD)
    assert unit.secrets_text() == 'UV_INDEX_URL="https://me:pa\\$\\$w\\`o\\"r\\\\d%@packages.example.com/simple"\n'
    with pytest.raises(InvalidError, match="a quote or a backslash"):
        Unit(('/opt/"mine"/python',), user=False).text()
    with pytest.raises(InvalidError, match="ZYGO_DOMAIN has a line break"):
        Unit(COMMAND, user=False, environment={"ZYGO_DOMAIN": "a\nExecStartPre=/bin/false"}).text()


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("ZYGO_DATABASE", "postgresql://zygo:pw@db/zygo", True),
        ("ZYGO_DATABASE", "postgresql://db/zygo?user=zygo&password=pw", True),
        ("ZYGO_DATABASE", "postgresql://zygo@db/zygo", False),
        ("ZYGO_DATABASE", "postgresql://zygo:pw@[db/zygo", True),
        ("ZYGO_API_TOKEN", "abc", True),
        ("ZYGO_SECRET_KEY", "abc", True),
        ("ZYGO_DOMAIN", "example.com", False),
        ("ZYGO_DATA_DIR", "/srv/zygo", False),
    ],
)
def test_what_is_a_secret(name: str, value: str, secret: bool) -> None:
    assert is_secret(name, value) is secret


@pytest.mark.parametrize(
    ("prefix", "temporary"),
    [
        ("/root/.cache/uv/archive-v0/abc", True),
        ("/cache/uv/environments-v2/x", True),
        ("/tmp/venv", True),
        ("/var/tmp/venv", True),
        ("/scratch/venv", True),
        ("/root/.local/share/uv/tools/zygo", False),
        ("/usr", False),
    ],
)
def test_an_environment_that_may_vanish(prefix: str, temporary: bool) -> None:
    assert is_temporary(Path(prefix), cache=Path("/cache/uv"), temporary=Path("/scratch")) is temporary


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze (package systemd) is not there")
@pytest.mark.parametrize(("user", "account"), [(False, ""), (False, "daemon"), (True, "")])
def test_systemd_accepts_it(user: bool, account: str, tmp_path: Path) -> None:
    program = tmp_path / "my $x 100% bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "zygo.service"
    environment = {**ODD, "ZYGO_RUNTIME_DIR": "/run/zygo"}
    unit = Unit((str(program), *COMMAND[1:]), user, environment, tmp_path / "zygo.env", account=account)
    path.write_text(unit.text())
    options = ["--user"] if user else []
    done = subprocess.run(
        ["systemd-analyze", *options, "verify", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
