"""`zygo serve --share` with an sshd of its own, and with a program that stands for cloudflared."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from e2e.caddy_kit import free_ports
from zygo.testing import processes
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = """
import zygo

app = zygo.App("shared")


@app.function()
@zygo.fastapi_endpoint()
def hello():
    return "VALUE"
"""

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CLOUDFLARED = """\
#!{python}
import socket, sys, threading
port = int(sys.argv[-1].rpartition(":")[2])
listener = socket.create_server(("127.0.0.1", 0))
print("INF Thank you for trying Cloudflare Tunnel. (https://www.cloudflare.com/website-terms/)", file=sys.stderr)
print("INF |  https://random-words.trycloudflare.com  |", file=sys.stderr, flush=True)
open({note!r}, "w").write(f"{{port}}")
signal = __import__("signal")
signal.pause()
"""


@contextmanager
def sshd(folder: Path) -> Iterator[str]:
    """An sshd on loopback with keys of its own; what ZYGO_SHARE_SSH says to get there."""
    assert SSHD is not None
    (port,) = free_ports(1)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\nGatewayPorts clientspecified\n"
        "AllowTcpForwarding yes\n"
    )
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
        try:
            until(lambda: listens(port), what="sshd")
            options = f"-F none -p {port} -i {folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
            yield f"{options} -o LogLevel=INFO root@127.0.0.1"
        finally:
            server.terminate()
            server.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def tunnels(place: Place) -> list[int]:
    """The programs that keep tunnels."""
    return [p.pid for p in processes.marked(str(place.root)) if " tunnel " in p.command or "ssh -N" in p.command]


@pytest.mark.skipif(SSHD is None or os.geteuid() != 0, reason="there is no sshd, or this is not root")
def test_ssh(tmp_path: Path, write: Callable[..., Path]) -> None:
    program = write(PROGRAM)
    with sshd(tmp_path) as where, Place() as place:
        with place.serve(program, "--share", env={"ZYGO_SHARE_SSH": where}) as serve:
            url = serve.wait_for(r"hello is shared at (http://127.0.0.1:\d+)")[1]
            assert url != serve.url("hello")
            assert httpx.get(url, trust_env=False).json() == "VALUE"
            serve.save(program.name, PROGRAM.replace("VALUE", "new"))
            serve.wait_for("Updated")
            assert httpx.get(url, trust_env=False).json() == "new"
            # A tunnel that breaks is opened again.
            (pid,) = tunnels(place)
            os.kill(pid, signal.SIGKILL)
            serve.wait_for("The tunnel of hello ended; it is opened again")
            url = serve.wait_for(r"hello is shared at (\S+)")[1]
            assert httpx.get(url, trust_env=False).json() == "new"
            assert serve.stop() == 0
        assert tunnels(place) == []
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, trust_env=False)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with a cloudflared that only says that it opened a tunnel, and to where."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "cloudflared"
    script.write_text(CLOUDFLARED.format(python=sys.executable, note=str(tmp_path / "note")))
    script.chmod(0o755)
    return folder


def test_cloudflared(tmp_path: Path, fake: Path, write: Callable[..., Path]) -> None:
    with Place({"PATH": f"{fake}:{os.environ['PATH']}"}) as place:
        with place.serve(write(PROGRAM), "--share") as serve:
            serve.wait_for("hello is shared at https://random-words.trycloudflare.com")
            until((tmp_path / "note").exists)
            assert httpx.get(f"http://127.0.0.1:{(tmp_path / 'note').read_text()}", trust_env=False).json() == "VALUE"
            assert len(tunnels(place)) == 1
            assert serve.stop() == 0
        assert tunnels(place) == []
        with place.serve(write(PROGRAM), "--share") as serve:
            serve.wait_for("hello is shared at")
            (pid,) = tunnels(place)
            serve.kill()
            processes.wait_gone([pid])


def test_with_neither_nothing_starts(tmp_path: Path, write: Callable[..., Path]) -> None:
    with Place() as place:
        if shutil.which("cloudflared"):
            pytest.skip("cloudflared is installed")
        done = place.zygo("serve", str(write(PROGRAM)), "--share")
        assert done.code == 1
        assert "ZYGO_SHARE_SSH=user@host" in done.text
        assert place.server_pid() is None
