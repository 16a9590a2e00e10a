"""A server with certificate files: URLs by https, the redirect, a renewal while it runs, and what is refused at the start."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tls_kit import DAY, Authority
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOMAIN = "apps.test"
PROGRAM = """
import zygo
from fastapi import Request

app = zygo.App("secure")


@app.function()
@zygo.fastapi_endpoint()
def hello(request: Request):
    return {"url": str(request.url)}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(authority: Authority, **more: str) -> dict[str, str]:
    pair = authority.pair("a", DOMAIN, f"*.{DOMAIN}")
    cert = {"ZYGO_TLS_CERT": str(pair.certificate), "ZYGO_TLS_KEY": str(pair.key)}
    return {"ZYGO_DOMAIN": DOMAIN, "ZYGO_TLS_PORT": "0", **cert, **more}


def curl(authority: Authority, url: str, *options: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    command = ["curl", "-sS", "--max-time", "20", "--cacert", str(authority.file), "--resolve"]
    command += [f"{parts.hostname}:{port}:127.0.0.1", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def serial(authority: Authority, port: int, name: str) -> str:
    context = authority.client()
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname=name) as sock,
    ):
        found = sock.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def test_https_from_certificate_files(authority: Authority, write: Callable[..., Path]) -> None:
    with Place(settings(authority, ZYGO_TLS_REDIRECT="true")) as place:
        url = place.deploy(write(PROGRAM))["urls"]["hello"]
        status = place.status()
        assert status is not None
        assert url == f"https://local--secure-hello.{DOMAIN}:{status['https_port']}"
        assert status["warnings"] == [text for text in status["warnings"] if "certificate" not in text]
        assert json.loads(curl(authority, url)) == {"url": f"{url}/"}
        host = str(urlsplit(url).hostname)
        plain = f"http://{host}:{status['gateway']['port']}/a"
        assert curl(authority, plain, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}") == f"308 {url}/a"

        before = serial(authority, status["https_port"], host)
        authority.pair("a", DOMAIN, f"*.{DOMAIN}")
        until(lambda: serial(authority, status["https_port"], host) != before, what="the new certificate")
        authority.folder.joinpath("a.key").write_text("nothing")
        until(lambda: "the old ones stay" in place.server_log(), what="a complaint")
        assert json.loads(curl(authority, url)) == {"url": f"{url}/"}
        assert "https at port" in place.zygo("server", "status").text


def test_a_server_with_files_that_do_not_fit_does_not_start(authority: Authority) -> None:
    other = authority.pair("other", DOMAIN)
    with Place({**settings(authority), "ZYGO_TLS_KEY": str(other.key)}) as place:
        done = place.zygo("server", "start")
        assert done.code == 1
        assert "does not belong to the certificate" in done.text
    with Place({"ZYGO_TLS_KEY": str(other.key)}) as place:
        done = place.zygo("server", "start")
        assert "ZYGO_TLS_KEY is set, and ZYGO_TLS_CERT is not" in done.text


def test_what_clients_will_refuse_is_warned_of(authority: Authority) -> None:
    pair = authority.pair("old", "elsewhere.test", ends=-DAY)
    env = {
        "ZYGO_DOMAIN": DOMAIN,
        "ZYGO_TLS_CERT": str(pair.certificate),
        "ZYGO_TLS_KEY": str(pair.key),
        "ZYGO_TLS_PORT": "0",
    }
    with Place(env) as place:
        done = place.zygo("server", "start")
        assert done.code == 0
        assert "ended on" in done.text
        assert f"No certificate is good for the hostnames *.{DOMAIN} (it has the names elsewhere.test)" in done.text
