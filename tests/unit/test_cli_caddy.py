"""Caddy's configuration: what it says, that Caddy takes it, and what `zygo server install --domain` does with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from install_kit import Desk
from zygo.cli import public
from zygo.cli.caddy import MARK, Caddy, check_domain, is_ours, is_packaged, records
from zygo.cli.install import Service, unit_of
from zygo.cli.public import Public
from zygo.errors import ExecutionError, InvalidError

if TYPE_CHECKING:
    from pathlib import Path

needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")


def adapted(caddy: Caddy, folder: Path) -> dict[str, Any]:
    """The configuration as Caddy understands it."""
    file = folder / "Caddyfile"
    file.write_text(caddy.text())
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    for command in ("validate", "adapt"):
        done = subprocess.run(
            ["caddy", command, "--adapter", "caddyfile", "--config", str(file)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_caddy
def test_caddy_takes_it(tmp_path: Path) -> None:
    found = adapted(Caddy(8000, 8010, email="a@example.com"), tmp_path)
    assert found["apps"]["tls"]["automation"]["on_demand"]["ask"] == "http://127.0.0.1:8010/"
    (server,) = found["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert server["protocols"] == ["h1", "h2", "h3"]
    (handler,) = server["routes"][0]["handle"]
    assert handler["upstreams"] == [{"dial": "127.0.0.1:8000"}]
    assert handler["flush_interval"] == -2
    assert "trusted_proxies" not in handler


@needs_caddy
def test_a_further_host_leads_to_its_own_port(tmp_path: Path) -> None:
    found = adapted(Caddy(8000, 8010, {"control.apps.example.com": 8020}), tmp_path)
    (server,) = found["apps"]["http"]["servers"].values()
    first, rest = server["routes"]
    assert first["match"] == [{"host": ["control.apps.example.com"]}]
    assert "127.0.0.1:8020" in json.dumps(first)
    assert "127.0.0.1:8000" in json.dumps(rest)
    assert all(policy.get("on_demand") for policy in found["apps"]["tls"]["automation"]["policies"])


@needs_caddy
def test_sites_of_ones_own_are_included(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "mine.caddy").write_text("mine.example.com {\n\trespond hello\n}\n")
    found = adapted(Caddy(8000, 8010, sites=str(tmp_path / "sites" / "*.caddy")), tmp_path)
    assert "mine.example.com" in json.dumps(found)


def test_whose_a_file_is() -> None:
    assert is_ours(Caddy(1, 2).text())
    assert Caddy(1, 2).text().startswith(MARK)
    assert not is_ours("example.com {\n}\n")
    assert is_packaged("hello\n", " /etc/caddy/Caddyfile b1946ac92492d2347c6235b4d2611184")


def test_a_domain_is_checked() -> None:
    assert check_domain("Apps.Example.com.") == "apps.example.com"
    for bad in ("apps", "https://apps.example.com", "*.example.com", "10.0.0.1", "x.localhost", "", "a_b.example.com"):
        with pytest.raises(InvalidError):
            check_domain(bad)


def test_records_for_known_addresses_and_for_none() -> None:
    assert records("a.example", ["203.0.113.5", "2001:db8::1"]) == [
        "a.example.  A     203.0.113.5",
        "a.example.  AAAA  2001:db8::1",
        "*.a.example.  A     203.0.113.5",
        "*.a.example.  AAAA  2001:db8::1",
    ]
    assert records("a.example", [])[0] == "a.example.  A     <public IPv4 address of this machine>"


def desk_with_caddy(folder: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool = True) -> tuple[Desk, Public]:
    desk = Desk(folder, monkeypatch)
    caddy = folder / "bin" / "caddy"
    caddy.write_text(f"#!/bin/sh\n{'exit 0' if takes else 'echo unknown directive >&2; exit 1'}\n")
    caddy.chmod(0o755)
    return desk, Public("apps.example.com", folder / "caddy" / "Caddyfile")


def test_it_installs_both_and_says_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, wanted = desk_with_caddy(tmp_path, monkeypatch)
    unit = unit_of(desk.service, {}, wanted.settings())
    for _ in range(2):
        assert public.set_up(wanted, desk.service, unit, desk.out, start=True) == 0
    assert wanted.file.read_text() == wanted.configuration()
    assert "Environment=ZYGO_DOMAIN=apps.example.com\n" in desk.service.path.read_text()
    assert 'Environment="ZYGO_TRUSTED_PROXIES=127.0.0.1,::1"\n' in desk.service.path.read_text()
    assert "Environment=ZYGO_CONTROL_PORT=8401\n" in desk.service.path.read_text()
    assert "apps.example.com {\n\timport zygo_tls\n\treverse_proxy 127.0.0.1:8401" in wanted.file.read_text()
    assert "--server https://apps.example.com --token -" in desk.stdout.getvalue()
    ours = ["daemon-reload", "enable zygo.service", "restart zygo.service"]
    assert desk.told() == [*ours, "enable caddy", "reload-or-restart caddy"] * 2
    assert "*.apps.example.com.  A " in desk.stdout.getvalue()
    assert public.remove(desk.out, wanted.file) == [["systemctl", "disable", "--now", "caddy"]]
    assert not wanted.file.exists()
    assert public.remove(desk.out, wanted.file) == []


def test_a_control_api_with_a_certificate_of_its_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Public("apps.example.com")
    monkeypatch.setenv("ZYGO_CONTROL_PORT", "9000")
    assert wanted.settings()["ZYGO_CONTROL_PORT"] == "9000"
    assert "reverse_proxy 127.0.0.1:9000" in wanted.configuration()
    monkeypatch.setenv("ZYGO_CONTROL_CERT", "/etc/zygo/cert.pem")
    assert "ZYGO_CONTROL_PORT" not in wanted.settings()
    assert "9000" not in wanted.configuration()


def test_sites_of_ones_own_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, wanted = desk_with_caddy(tmp_path, monkeypatch)
    wanted.file.parent.mkdir()
    wanted.file.write_text("example.com {\n}\n")
    unit = unit_of(desk.service, {}, wanted.settings())
    with pytest.raises(ExecutionError, match=r"sites of your own.*\n\n    sudo mkdir"):
        public.set_up(wanted, desk.service, unit, desk.out, start=True)
    assert wanted.file.read_text() == "example.com {\n}\n"
    assert not desk.service.path.exists()


def test_a_caddy_that_refuses_it_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, wanted = desk_with_caddy(tmp_path, monkeypatch, takes=False)
    unit = unit_of(desk.service, {}, wanted.settings())
    with pytest.raises(ExecutionError, match=r"refuses the configuration.*unknown directive"):
        public.set_up(wanted, desk.service, unit, desk.out, start=True)
    assert not wanted.file.exists()
    assert not desk.service.path.exists()


def test_without_root_or_caddy_the_commands_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service(True, tmp_path, tmp_path / "env", running=True)
    wanted = Public("apps.example.com", tmp_path / "Caddyfile")
    with pytest.raises(ExecutionError, match=r"as root:\n\n    sudo zygo server install --domain apps.example.com"):
        public.refuse(wanted, own)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutionError, match="sudo apt-get install caddy"):
        public.refuse(wanted, Service(False, tmp_path, tmp_path / "env", running=True))


def test_settings_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, wanted = desk_with_caddy(tmp_path, monkeypatch)
    monkeypatch.setenv("ZYGO_PORT", "80")
    with pytest.raises(InvalidError, match="ZYGO_PORT=80"):
        public.refuse(wanted, desk.service)
    monkeypatch.delenv("ZYGO_PORT")
    monkeypatch.setenv("ZYGO_TLS_CERT", "/a.pem")
    with pytest.raises(InvalidError, match="without Caddy"):
        public.refuse(wanted, desk.service)
