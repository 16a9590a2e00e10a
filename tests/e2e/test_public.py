"""A server with a domain behind Caddy, as `zygo server install --domain` sets it up, with Caddy's internal authority."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import websockets.sync.client

from e2e import h3_kit
from e2e.caddy_kit import RunningCaddy, free_ports
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")

DOMAIN = "apps.test"

PROGRAM = """
import asyncio
import json

import zygo

app = zygo.App("public")


async def answer(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] == "/events":
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: one\\n\\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        print("the client of", scope["query_string"].decode(), "has left")
        return
    said = {"scheme": scope["scheme"], "client": scope["client"][0], "host": dict(scope["headers"])[b"host"].decode()}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})


@app.function()
@zygo.concurrent(max_inputs=10)
@zygo.asgi_app(custom_domains=["shop.example.test", "*.wild.example.test"])
def web():
    return answer
"""


class Site:
    """A deployed program behind Caddy."""

    def __init__(self, place: Place, caddy: RunningCaddy, result: dict[str, Any]) -> None:
        self.place, self.caddy, self.result = place, caddy, result
        self.port = caddy.port
        self.host = str(urlsplit(result["urls"]["web"]).hostname)

    def command(self, *options: str, host: str = "") -> list[str]:
        """A call of curl for a name that leads to Caddy."""
        host = host or self.host
        trusting = ["--cacert", str(self.caddy.authority), "--resolve", f"{host}:{self.port}:127.0.0.1"]
        return ["curl", "-sS", "--max-time", "30", *trusting, *options, f"https://{host}:{self.port}/"]

    def curl(self, *options: str, host: str = "") -> subprocess.CompletedProcess[str]:
        command = self.command(*options, host=host)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("caddy")
    gateway, ask, http_port, https, control = free_ports(5)
    env = {
        "ZYGO_DOMAIN": DOMAIN,
        "ZYGO_PORT": str(gateway),
        "ZYGO_PROXY_PORT": str(https),
        "ZYGO_ASK_PORT": str(ask),
        "ZYGO_TRUSTED_PROXIES": "127.0.0.1,::1",
        "ZYGO_CONTROL_PORT": str(control),
    }
    program = folder / "program.py"
    program.write_text(PROGRAM)
    with Place(env) as place:
        result = place.deploy(program)
        with RunningCaddy(
            folder, gateway=gateway, ask=ask, http=http_port, https=https, hosts={DOMAIN: control}
        ) as caddy:
            yield Site(place, caddy, result)


def test_the_urls_are_those_of_the_proxy(site: Site) -> None:
    assert site.result["urls"]["web"] == f"https://local--public-web.{DOMAIN}:{site.port}"
    (function,) = site.result["functions"]
    assert function["custom_domains"] == [
        f"https://shop.example.test:{site.port}",
        f"https://*.wild.example.test:{site.port}",
    ]


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl(site: Site, version: str) -> None:
    done = site.curl(f"--http{version}", "-w", "\n%{http_version} %{http_code}")
    body, _, said = done.stdout.partition("\n")
    assert said == f"{version} 200", done.stderr + site.caddy.log()
    assert json.loads(body) == {"scheme": "https", "client": "127.0.0.1", "host": f"{site.host}:{site.port}"}


def test_http3(site: Site) -> None:
    status, body = h3_kit.get(site.port, site.host, "/", site.caddy.authority)
    assert status == 200
    assert json.loads(body)["scheme"] == "https"


def test_a_client_cannot_forge_its_address(site: Site) -> None:
    done = site.curl("-H", "X-Forwarded-For: 203.0.113.66", "-H", "X-Forwarded-Proto: http")
    assert json.loads(done.stdout)["client"] == "127.0.0.1"
    assert json.loads(done.stdout)["scheme"] == "https"


def test_websockets(site: Site) -> None:
    sock = socket.create_connection(("127.0.0.1", site.port))
    url = f"wss://{site.host}:{site.port}/"
    with websockets.sync.client.connect(url, sock=sock, ssl=site.caddy.client(), proxy=None) as socket_:
        assert socket_.recv(timeout=20) == "wss"
        socket_.send("hello")
        assert socket_.recv(timeout=20) == "hello"


def test_events_come_at_once(site: Site) -> None:
    """The answer never ends, and yet its first event is here."""
    context = site.caddy.client()
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname=site.host) as sock,
    ):
        sock.sendall(f"GET /events?that HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.readline() == b"data: one\n"
        response.close()  # it holds the socket, too
    # And the function hears at once that its client is gone, though it has nothing to send.
    until(lambda: "the client of that has left" in site.place.zygo("app", "logs", "public").text, what="the word")


@pytest.mark.parametrize("host", ["shop.example.test", "a.wild.example.test"])
def test_custom_domains(site: Site, host: str) -> None:
    assert not site.caddy.has_certificate(host)
    done = site.curl(host=host)
    assert json.loads(done.stdout or "{}").get("host") == f"{host}:{site.port}", done.stderr + site.caddy.log()
    assert site.caddy.has_certificate(host)


@pytest.mark.parametrize(
    "host", [f"nothing.{DOMAIN}", "stranger.example", "b.a.wild.example.test", "wild.example.test"]
)
def test_a_name_that_is_not_served_gets_no_certificate(site: Site, host: str) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as raw, pytest.raises(ssl.SSLError):
        site.caddy.client().wrap_socket(raw, server_hostname=host)
    assert not site.caddy.has_certificate(host)
    assert site.caddy.has_certificate(site.host) or site.curl().returncode == 0


def test_the_domain_itself_is_the_servers_and_says_nothing_without_a_token(site: Site) -> None:
    done = site.curl("-w", "%{http_code}", host=DOMAIN)
    assert done.stdout == "401"


LAPTOPS = """
import pathlib

import zygo

app = zygo.App("afar", image=zygo.Image.debian_slim().add_local_file("big.bin", "/data/big.bin"))


@app.function()
def size(text: str) -> int:
    print("measuring", VERSION)
    return len(text) + pathlib.Path("/data/big.bin").stat().st_size


@app.function()
@zygo.asgi_app()
def version():
    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"VERSION"})

    return answer
"""

CALLER = """
import zygo

print(zygo.Function.from_name("afar", "size").remote("x" * 2_000_000))
"""


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Iterator[Place]:
    """A machine that knows the server by its name, and has a token."""
    if os.geteuid() != 0:
        pytest.skip("a machine's hosts file of its own needs root")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {DOMAIN}\n")
    with_hosts = ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    site.place.zygo("token", "delete", "laptop")
    made = site.place.zygo("token", "create", "laptop", "--scope", "deploy", "--json")
    env = {
        "ZYGO_SERVER": f"https://{DOMAIN}:{site.port}",
        "ZYGO_TOKEN": str(json.loads(made.text)["token"]),
        "SSL_CERT_FILE": str(site.caddy.authority),
    }
    with Place(env, prefix=with_hosts) as place:
        yield place


def test_a_laptop_works_with_it_through_caddy(site: Site, laptop: Place, write: Callable[..., Path]) -> None:
    program = write(LAPTOPS.replace("VERSION", "1"))
    big = program.parent / "big.bin"
    big.write_bytes(os.urandom(3_000_000))  # far too much to go along with a save
    with laptop.serve(program) as serve:
        host = str(urlsplit(serve.url("version")).hostname)
        assert site.curl(host=host).stdout == "1"
        big.write_bytes(os.urandom(3_000_001))
        serve.wait_for("Updated afar in")
        serve.save(program.name, LAPTOPS.replace("VERSION", "2"))
        serve.wait_for("Updated afar in")
        assert site.curl(host=host).stdout == "2"
        assert serve.stop() == 0

    laptop.deploy(program, cwd=program.parent)
    history = laptop.zygo("app", "history", "afar", "--json")
    assert json.loads(history.text)["revisions"][0]["by"]["deployed_by"] == "laptop"
    following = subprocess.Popen(
        [*laptop.command, "app", "logs", "afar", "-f"], env=laptop.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        caller = write(CALLER, name="caller.py")
        called = subprocess.run(
            [*laptop.prefix, laptop.python, str(caller)],
            env=laptop.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert called.stdout == "5000001\n", called.stderr
        assert following.stdout is not None
        assert any("measuring 2" in line for line in following.stdout)  # it comes while the command goes on
        assert following.poll() is None
    finally:
        following.terminate()
        following.communicate(timeout=30)
    assert laptop.zygo("app", "stop", "afar", "--yes").code == 0
    entry = json.loads(site.place.zygo("server", "audit", "afar", "--json").text)["entries"][0]
    assert (entry["who"], entry["address"]) == ("laptop", "127.0.0.1")


def test_requests_wait_for_a_server_that_restarts(site: Site, write: Callable[..., Path]) -> None:
    site.place.kill_server()
    waiting = subprocess.Popen(site.command(), stdout=subprocess.PIPE)
    site.place.start_server()
    out, _ = waiting.communicate(timeout=60)
    assert out.startswith(b"{"), (out, site.caddy.log()[-2000:])
    assert json.loads(out)["scheme"] == "https"


def test_another_app_cannot_take_a_domain(site: Site, write: Callable[..., Path]) -> None:
    thief = write(PROGRAM.replace('"public"', '"thief"'))
    done = site.place.zygo("deploy", str(thief))
    assert done.code == 1
    assert "The custom domain shop.example.test of thief.web belongs to public.web already" in done.text


def test_deploying_says_which_records_are_missing(site: Site, write: Callable[..., Path]) -> None:
    done = site.place.zygo("deploy", str(write(PROGRAM)))
    assert done.code == 0
    assert f"Custom domain for web => https://shop.example.test:{site.port}" in done.text
    assert "The custom domain shop.example.test is not in DNS" in done.text or "is not known" in done.text


def test_serving_leaves_custom_domains_alone(site: Site, write: Callable[..., Path]) -> None:
    with site.place.serve(write(PROGRAM)) as serve:
        serve.wait_for(r"custom_domains of web .* take effect with `zygo deploy`", anywhere=True)


def test_a_gateway_behind_a_proxy_takes_no_other_port(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Place({"ZYGO_PORT": str(port), "ZYGO_PROXY_PORT": "443"}) as place:
            done = place.zygo("server", "start")
            assert done.code == 1
            assert f"cannot listen on 127.0.0.1:{port}" in done.text
