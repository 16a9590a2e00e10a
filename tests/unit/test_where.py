"""Which server is meant, profiles, and what ssh's failures mean."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from zygo.errors import AuthError, ConnectionError, InvalidError, NotFoundError, VersionError
from zygo.sdk import distant, door, profiles, where
from zygo.sdk import ssh as openssh
from zygo.sdk.client import Client
from zygo.sdk.where import Remote
from zygo.version import version

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("ZYGO_SERVER", "ZYGO_TOKEN", "ZYGO_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://ada@host:2222", Remote("ssh", "host", 2222, "ada")),
        ("ssh://host", Remote("ssh", "host")),
        ("https://zygo.example.com/", Remote("https", "zygo.example.com", token="t")),
        ("http://127.0.0.1:8400", Remote("http", "127.0.0.1", 8400, token="t")),
        ("https://[2001:db8::1]:1", Remote("https", "2001:db8::1", 1, token="t")),
    ],
)
def test_addresses(text: str, expected: Remote) -> None:
    assert where.parse(text, "t") == expected
    assert where.parse(expected.name, "t") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host", "not a server's address"),
        ("ftp://host", "not a server's address"),
        ("https://host/path", "not a server's address"),
        ("ssh://host:port", "port or host is wrong"),
        ("ssh://-oProxyCommand=x", "begins with a dash"),
        ("ssh://u:p@host", "holds no password"),
        ("https://u@host", "holds no password"),
        ("http://host", "in the clear"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        where.parse(text, "t")
    with pytest.raises(InvalidError, match="needs a token"):
        where.parse("https://host")


def test_which_server_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert where.server() is None
    made = {name: profiles.Profile(name, f"https://{name}", "secret") for name in ("a", "b")}
    profiles.save(made, "a")
    assert profiles.path().stat().st_mode & 0o777 == 0o600
    assert where.server() == Remote("https", "a", token="secret")
    monkeypatch.setenv("ZYGO_PROFILE", "b")
    assert where.server() == Remote("https", "b", token="secret")
    monkeypatch.setenv("ZYGO_TOKEN", "other")
    assert where.server() == Remote("https", "b", token="other")
    monkeypatch.setenv("ZYGO_SERVER", "local")
    assert where.server() is None
    monkeypatch.delenv("ZYGO_SERVER")
    monkeypatch.setenv("ZYGO_PROFILE", "c")
    with pytest.raises(NotFoundError, match="There are: a, b"):
        where.server()
    profiles.path().write_text("{")
    with pytest.raises(InvalidError, match="cannot be read"):
        profiles.load()


def test_versions() -> None:
    remote = Remote("ssh", "host")
    distant.check({"version": version()}, remote)
    major, minor = distant.release(version())
    distant.check({"version": f"{major}.{minor}.99"}, remote)
    with pytest.raises(
        VersionError, match=rf"zygo {version()}.*zygo {major}\.{minor + 1}\.0.*Upgrade zygo on this machine"
    ):
        distant.check({"version": f"{major}.{minor + 1}.0"}, remote)
    with pytest.raises(VersionError, match="Upgrade zygo on host"):
        distant.check({"version": "0.0.1"}, remote)


@pytest.mark.parametrize(
    ("status", "said", "kind", "text"),
    [
        (127, "sh: 1: exec: zygo: not found", ConnectionError, "no `zygo` command"),
        (255, "Host key verification failed.", AuthError, "does not trust the host key"),
        (255, "x@host: Permission denied (publickey).", AuthError, "needs a key"),
        (255, "ssh: connect to host h port 22: Connection refused", ConnectionError, "see that sshd runs, and that 22"),
        (255, "ssh: Could not resolve hostname h: Name or service not known", ConnectionError, "its DNS record"),
        (255, "ssh: connect to host h port 22: Connection timed out", ConnectionError, "a firewall drops"),
        (255, "ssh: connect to host h port 22: No route to host", ConnectionError, "this machine's network"),
        (255, "Connection closed by 10.0.0.1 port 22", ConnectionError, "journalctl -u ssh"),
        (255, "something new", ConnectionError, "Try by hand: ssh x@host"),
        (2, "Error: No such command 'attach'.", VersionError, "too old"),
        (1, "boom", ConnectionError, "status 1"),
    ],
)
def test_what_ssh_failures_mean(status: int, said: str, kind: type[Exception], text: str) -> None:
    error = openssh.failure(Remote("ssh", "host", 0, "x"), status, said)
    assert type(error) is kind
    assert text in str(error)


def test_why_no_server_answers() -> None:
    """The system's own errors, of connections that are really tried."""

    async def tried(remote: Remote) -> str:
        with pytest.raises(ConnectionError) as found:
            await door.connect_tcp(remote, None)
        return str(found.value)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        said = asyncio.run(tried(Remote("http", "127.0.0.1", port)))
    assert said.startswith(f"No server answers at http://127.0.0.1:{port}: the connection was refused")
    assert "--control" in said
    said = asyncio.run(tried(Remote("http", "name.invalid", 1)))
    assert said.startswith("No server answers at http://name.invalid:1: the name name.invalid is not known")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to host from here"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no route to host from here"),
        (TimeoutError(), "a firewall drops what comes for its port 443"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "sent nothing back"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "closed the connection at once"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "Is it the right port?"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_what_errors_of_a_connection_mean(error: Exception, text: str) -> None:
    assert text in where.unreachable(Remote("https", "host"), error)


def test_why_this_machines_server_is_silent(tmp_path: Path) -> None:
    async def tried() -> str:
        with pytest.raises(ConnectionError) as found:
            await Client(tmp_path / "control.sock").status()
        return str(found.value)

    assert "zygo server start" in asyncio.run(tried())
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(tmp_path / "control.sock"))
    assert "has ended. `zygo server logs`" in asyncio.run(tried())
    assert "another user" in where.silent("/s", OSError(errno.EACCES, "Permission denied"))


def test_profiles_are_read_again_when_their_file_has_changed_and_only_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    reads: list[Path] = []
    real = profiles._load

    def counted(file: Path) -> tuple[dict[str, profiles.Profile], str]:
        reads.append(file)
        return real(file)

    monkeypatch.setattr(profiles, "_load", counted)
    for _ in range(3):
        assert profiles.load() == ({}, "")
    one = profiles.Profile("one", "ssh://a.example.com")
    profiles.save({"one": one}, "one")
    for _ in range(3):
        found, active = profiles.load()
        assert (found, active) == ({"one": one}, "one")
        found.clear()  # what a caller does with it is the caller's
    profiles.save({"one": one}, "")
    assert profiles.load() == ({"one": one}, "")
    profiles.path().unlink()
    assert profiles.load() == ({}, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert profiles.load() == ({}, "")
    assert len(reads) == 5
