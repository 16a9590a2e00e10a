"""Servers of the user's own behind `@web_server`: any program that listens on a port."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.sync.client import connect

from e2e.http_kit import Many, app_log
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Place, Serve

PROGRAM = '''
import os
import socket
import subprocess
import sys
import threading

import zygo

app = zygo.App("servers", image=zygo.Image.debian_slim().pip_install("websockets"))

SERVER = """
import http.server, os, signal, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, length=True):
        self.send_response(200)
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        if self.path == "/hold":
            self.wfile.write(b"HTTP/1.1 200 OK\\\\r\\\\nContent-Length: 3\\\\r\\\\n\\\\r\\\\n")
            self.wfile.flush()
            time.sleep(0.5)
            self.wfile.write(b"end")
            return
        self.answer(f"{os.environ['ZYGO_CONTAINER_ID']} {self.path} {self.headers['X-Forwarded-For']}".encode())

    def do_POST(self):
        if self.path == "/held":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\\\\r\\\\nConnection: close\\\\r\\\\n\\\\r\\\\n")
            self.wfile.write(os.environb[b"ZYGO_CONTAINER_ID"] + b"\\\\n")
            self.wfile.flush()
            while self.rfile.readline().strip() != b"0":
                self.rfile.readline()
            self.wfile.write(b"done\\\\n")
            return
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *args):
        pass

def stop(*args):
    print("the server was told to stop", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""

WEBSOCKETS = """
from websockets.sync.server import serve

def echo(connection):
    for message in connection:
        connection.send(message)

with serve(echo, "127.0.0.1", 9000, max_size=2**28) as server:
    server.serve_forever()
"""


def start(host, port=8000):
    return subprocess.Popen([sys.executable, "-c", SERVER, host, str(port)])


@app.function()
@zygo.web_server(8000)
def loopback():
    start("127.0.0.1")


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=100)
@zygo.web_server(8000)
def everywhere():
    start("0.0.0.0")


@app.function()
@zygo.web_server(8000)
def six():
    class Six(__import__("http.server").server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    from http.server import SimpleHTTPRequestHandler
    os.chdir("/root")
    server = Six(("::1", 8000), SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@app.function()
@zygo.web_server(8000)
def files():
    subprocess.Popen([sys.executable, "-m", "http.server", "8000", "-d", "/root"])


@app.function()
@zygo.concurrent(max_inputs=10)
@zygo.web_server(9000)
def chat():
    subprocess.Popen([sys.executable, "-c", WEBSOCKETS])


@app.function()
@zygo.web_server(8000, startup_timeout=5)
def elsewhere():
    start("127.0.0.1", 8001)


@app.function()
@zygo.web_server(8000, startup_timeout=5)
def blocks():
    subprocess.run([sys.executable, "-c", SERVER, "127.0.0.1", "8000"])


@app.function()
@zygo.web_server(8000, startup_timeout=300)
def crashes():
    subprocess.Popen([sys.executable, "-c", "import nothing_like_this"])


HEALTH = """
import http.server, os, sys, threading, time

state = {"asked": 0}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            state["asked"] += 1
            if state["asked"] == 1:
                self.connection.close()  # no answer at all
                return
            self.send_response(204 if state["asked"] > 4 and sys.argv[1] != "never" else 503)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"asked {state['asked']} times, by {self.headers['X-Forwarded-For']}".encode())

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


@app.function()
@zygo.web_server(8000, health_path="/health")
def loads():
    subprocess.Popen([sys.executable, "-c", HEALTH, "later"])


@app.function()
@zygo.web_server(8000, startup_timeout=5, health_path="/health")
def never_healthy():
    subprocess.Popen([sys.executable, "-c", HEALTH, "never"])


@app.function()
@zygo.web_server(8000, startup_timeout=600)
def gives_up():
    subprocess.Popen([sys.executable, "-c", "print('not as root')"])


@app.function()
@zygo.web_server(8000)
def interfaces():
    names = sorted(name for _, name in socket.if_nameindex())
    (__import__("pathlib").Path("/tmp/names")).write_text(" ".join(names))
    subprocess.Popen([sys.executable, "-m", "http.server", "8000", "-d", "/tmp"])


@app.function(block_network=True)
@zygo.web_server(8000)
def cut_off():
    names = sorted(name for _, name in socket.if_nameindex())
    (__import__("pathlib").Path("/tmp/names")).write_text(" ".join(names))
    subprocess.Popen([sys.executable, "-m", "http.server", "8000", "-d", "/tmp"])


@app.cls(scaledown_window=1)
class Managed:
    @zygo.enter()
    def enter(self):
        self.process = start("0.0.0.0")

    @zygo.web_server(8000)
    def serve(self):
        pass

    @zygo.exit()
    def leave(self):
        print("exit with", self.process.poll(), flush=True)
'''


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("servers") / "servers.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as running:
        yield running
        assert running.stop() == 0
    shared_place.settle()


@pytest.mark.parametrize("name", ["loopback", "everywhere"])
def test_a_server_on_any_address(serve: Serve, name: str) -> None:
    container, path, client = serve.get(name, path="/a?b=c").text.split()
    assert container.startswith("c-")
    assert (path, client) == ("/a?b=c", "127.0.0.1")


@pytest.mark.parametrize("name", ["six", "files"])
def test_an_http_1_0_server_and_one_in_a_thread(serve: Serve, name: str) -> None:
    for _ in range(3):
        assert "zygo.App" in serve.get(name, path="/servers.py").text


def test_several_containers_listen_on_one_port(serve: Serve) -> None:
    with Many(serve.url("loopback") + "/held", 3) as held:
        assert len({one.container for one in held}) == 3
        for one in held:
            one.finish()


def test_bodies_and_kept_connections(serve: Serve) -> None:
    big = b"x" * 20_000_000
    with httpx.Client(trust_env=False) as client:
        for _ in range(20):
            assert client.get(serve.url("everywhere") + "/x").status_code == 200
            assert client.post(serve.url("everywhere"), content=b"abc").content == b"abc"
        assert client.post(serve.url("everywhere"), content=big).content == big
        assert client.head(serve.url("everywhere")).status_code == 501


def test_websockets_go_through(serve: Serve) -> None:
    with connect(serve.url("chat").replace("http", "ws", 1), max_size=2**28) as connection:
        for message in ("text", b"bytes", "ä" * 1000, "x" * 5_000_000):
            connection.send(message)
            assert connection.recv(timeout=20) == message


def test_a_server_that_dies_is_replaced(serve: Serve) -> None:
    first = serve.get("everywhere").text.split()[0]
    answer = serve.get("everywhere", path="/die")
    assert answer.status_code == 502
    serve.wait_for("server of everywhere on port 8000 has ended; its container ends too", anywhere=True)
    second = serve.get("everywhere")
    assert second.status_code == 200, second.text
    assert second.text.split()[0] != first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("elsewhere", r"did not listen on port 8000 within 5 s. It listens on 8001: give that as port="),
        ("blocks", r"serves on port 8000 and does not return. Start the server with subprocess.Popen"),
        ("crashes", r" s. No process of it runs any more; its output above says why."),
    ],
)
def test_a_server_that_does_not_come(serve: Serve, name: str, text: str) -> None:
    answer = serve.get(name)
    assert answer.status_code in (500, 502)
    assert text in answer.text
    # More time helps who is slow or elsewhere, and not who has crashed.
    assert ("web_server(8000, startup_timeout=60)" in answer.text) == (name == "elsewhere")
    if name == "crashes":
        assert "did not listen on port 8000 within" in answer.text
        assert "startup_timeout" not in answer.text
        serve.wait_for("No module named 'nothing_like_this'", anywhere=True)


def test_a_server_that_listens_before_it_is_healthy(serve: Serve) -> None:
    assert serve.get("loads").text == "asked 5 times, by 127.0.0.1"


def test_a_server_that_never_is_healthy(serve: Serve) -> None:
    answer = serve.get("never_healthy")
    assert answer.status_code in (500, 502)
    said = answer.text
    assert "The server of 'never_healthy' listened on port 8000, but was not healthy within 5 s" in said
    assert "GET /health answered 503 Service Unavailable, and 2xx or 3xx is meant." in said
    assert "write @zygo.web_server(8000, health_path='/health', startup_timeout=60)." in said


def test_a_server_that_ends_is_not_waited_for(serve: Serve) -> None:
    text = serve.get("gives_up").text
    assert "did not listen on port 8000 within" in text
    assert "within 600 s" not in text
    assert "No process of it runs any more; its output above says why." in text
    serve.wait_for("not as root", anywhere=True)


def test_each_container_has_its_network_and_the_outside_unless_blocked(serve: Serve) -> None:
    names = serve.get("interfaces", path="/names").text
    assert names == ("lo tap0" if _isolated(serve) else names)
    assert serve.get("cut_off", path="/names").text == "lo"


def _isolated(serve: Serve) -> bool:
    status = serve.place.status()
    return status is not None and status["network"] == "isolated"


def test_a_class_with_a_server_ends_it(serve: Serve) -> None:
    assert serve.get("Managed.serve").status_code == 200
    until(lambda: "exit with None" in app_log(serve.place, "servers"), 60, "the exit method, before the server's end")
    until(lambda: re.search("Managed.* told to stop", app_log(serve.place, "servers")), 60, "SIGTERM for the server")


def test_a_request_in_flight_survives_a_save(serve: Serve) -> None:
    got: list[str] = []
    serve.get("everywhere")
    thread = threading.Thread(target=lambda: got.append(serve.get("everywhere", path="/hold").text))
    thread.start()
    serve.save("servers.py", PROGRAM + "\n# saved\n")
    serve.wait_for("Updated servers in")
    thread.join()
    assert got == ["end"]
