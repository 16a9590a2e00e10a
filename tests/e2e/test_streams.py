"""Streams end to end, with real software: 10 GB, ranges, large WebSocket messages, clients that leave, old clients.

256 MB each way by default; TESTS_ALL=1 for 10 GB.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.sync.client import connect

from e2e.http_kit import app_log
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zygo.testing.harness import Place, Serve

MB = 10**6
SIZE = (10_000 if os.environ.get("TESTS_ALL") else 256) * MB
MEMORY = 50 * 2**20
"""What the gateway may hold of a stream, however long that is."""

PROGRAM = '''
import asyncio
import gc
import subprocess
import sys
import time

import zygo

app = zygo.App("streams", image=zygo.Image.debian_slim().pip_install("fastapi[standard]", "websockets"))

RANGES = """
import http.server, re

DATA = bytes(range(256)) * 4000

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        first, last = map(int, re.fullmatch("bytes=([0-9]+)-([0-9]+)", self.headers["Range"]).groups())
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(DATA[first : last + 1])

    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Sum")
        self.end_headers()
        self.wfile.write(b"4\\\\r\\\\nbody\\\\r\\\\n0\\\\r\\\\nX-Sum: 42\\\\r\\\\n\\\\r\\\\n")

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""

SOCKETS = """
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

def talk(ws):
    try:
        for message in ws:
            if message == "ping me":
                ws.ping(b"are you there").wait(20)
                ws.send("you were there")
            elif message == "close":
                ws.close(4003, "the server's reason")
            else:
                ws.send(message)
    except ConnectionClosed as error:
        pass
    print("socket closed with", ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason, flush=True)

serve(talk, "127.0.0.1", 9000, max_size=2**28).serve_forever()
"""


@app.function(max_containers=1, timeout=1200)
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
    from fastapi.responses import FileResponse, StreamingResponse

    api = FastAPI()
    piece = bytes(range(256)) * 4096

    @api.get("/source")
    async def source(size: int, declared: bool = True):
        async def pieces():
            for start in range(0, size, len(piece)):
                yield piece[: min(len(piece), size - start)]

        return StreamingResponse(pieces(), headers={"Content-Length": str(size)} if declared else None)

    @api.put("/sink")
    async def sink(request: Request):
        got = 0
        async for data in request.stream():
            got += len(data)
        return got

    open("/tmp/file", "wb").write(piece)

    @api.get("/file")
    def file():
        return FileResponse("/tmp/file")

    @api.get("/waits")
    async def waits():
        print("waits begins", flush=True)
        try:
            await asyncio.sleep(600)
        finally:
            print("waits was cancelled", flush=True)

    @api.get("/generates")
    async def generates():
        async def forever():
            try:
                yield b"first"
                await asyncio.sleep(600)
            finally:
                print("generates was closed", flush=True)

        return StreamingResponse(forever())

    @api.get("/threads")
    def threads():
        def forever():
            try:
                while True:
                    yield b"x" * 1000
                    time.sleep(0.01)
            finally:
                print("threads was closed", flush=True)

        return StreamingResponse(forever())

    @api.get("/collect")
    def collect():
        gc.collect()  # Starlette leaves a generator that it has given up in a cycle

    @api.get("/shielded")
    async def shielded():
        async def work():
            print("shielded begins", flush=True)
            await asyncio.sleep(1)
            print("shielded went on", flush=True)

        await asyncio.shield(work())

    @api.websocket("/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    print("app closed with", message["code"], message["reason"], flush=True)
                    return
                if message.get("text") == "close":
                    await socket.close(4003, "the app's reason")
                    return
                await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect:
            pass

    return api


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=20)
@zygo.web_server(8000, startup_timeout=60)
def ranges():
    subprocess.Popen([sys.executable, "-c", RANGES])


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=20)
@zygo.web_server(9000, startup_timeout=60)
def sockets():
    subprocess.Popen([sys.executable, "-c", SOCKETS])


@app.function()
@zygo.fastapi_endpoint()
async def endpoint():
    print("endpoint begins", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("endpoint was cancelled", flush=True)
'''


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("streams") / "streams.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as running:
        yield running
        assert running.stop() == 0
    shared_place.settle()


def memory(pid: int, field: str) -> int:
    """Bytes of a process: VmRSS now, VmHWM at most since `forget_peak`."""
    found = re.search(rf"{field}:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def grown(serve: Serve, work: Callable[[], None]) -> int:
    """How many bytes the server's memory grew by, at most, in the course of `work`."""
    pid = serve.place.server_pid()
    assert pid is not None
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(pid, "VmRSS")
    began = time.monotonic()
    work()
    more = memory(pid, "VmHWM") - before
    print(
        f"the server grew from {before / 2**20:.0f} MiB by at most {more / 2**20:.1f} MiB in {time.monotonic() - began:.1f} s"
    )
    return more


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_long_download_takes_little_memory(serve: Serve, framing: str) -> None:
    size = SIZE if framing == "length" else 256 * MB
    url = f"{serve.url('web')}/source?size={size}&declared={framing == 'length'}"

    def download() -> None:
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", "1200", "-o", "/dev/null"]
        command += ["-w", "%{size_download} %{http_code}", url]
        assert subprocess.check_output(command, text=True) == f"{size} 200"

    serve.get("web", path="/source?size=1")
    assert grown(serve, download) < MEMORY


def upload(url: str, size: int, *options: str) -> str:
    """What a PUT of `size` zeros is answered, and the status."""
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "1200", "-T", "-", "-w", " %{http_code}", *options, url]
    source = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        return subprocess.check_output(command, stdin=source.stdout, text=True)
    finally:
        assert source.stdout is not None
        source.stdout.close()
        source.wait()


def declared(size: int) -> tuple[str, ...]:
    return ("-H", f"Content-Length: {size}", "-H", "Transfer-Encoding:")


@pytest.mark.parametrize("where", ["ranges", "chunked"])
def test_a_long_upload_takes_little_memory(serve: Serve, where: str) -> None:
    def work() -> None:
        if where == "ranges":
            assert upload(serve.url("ranges"), 256 * MB, *declared(256 * MB)) == "ok 200"
        else:
            assert upload(serve.url("web") + "/sink", 256 * MB) == f"{256 * MB} 200"

    serve.get("web", path="/source?size=1")
    assert grown(serve, work) < MEMORY


SINK = """
import zygo

app = zygo.App("sink")


async def sink(scope, receive, send):
    assert scope["type"] == "http"
    got, more = 0, True
    while more:
        message = await receive()
        got += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(got).encode()})


@app.function(max_containers=1, timeout=1200)
@zygo.asgi_app()
def web():
    return sink
"""


@pytest.mark.timeout(1500)
def test_uploads_up_to_the_limit_that_is_set(fresh_place: Place, write: Callable[..., Path]) -> None:
    fresh_place.environment["ZYGO_MAX_BODY_BYTES"] = str(SIZE)
    said = f"zygo: the request body is larger than the {SIZE} bytes that are accepted (ZYGO_MAX_BODY_BYTES)"
    with fresh_place.serve(write(SINK)) as serve:
        url = serve.url("web") + "/"
        assert upload(url, 1) == "1 200"

        def work() -> None:
            assert upload(url, SIZE, *declared(SIZE)) == f"{SIZE} 200"

        assert grown(serve, work) < MEMORY
        over = upload(url, SIZE + 1, *declared(SIZE + 1))
        assert over.startswith(said)
        assert over.endswith(" 413")
        if SIZE <= 256 * MB:
            chunked = upload(url, SIZE + 10 * MB)
            assert chunked.startswith(said)
            assert chunked.endswith(" 413")
        assert serve.stop() == 0


def test_ranges(serve: Serve) -> None:
    expected = bytes(range(256))
    for name, path, total in (("web", "/file", 2**20), ("ranges", "/", 1_024_000)):
        answer = serve.get(name, path=path, headers={"Range": "bytes=1000-1999"})
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes 1000-1999/{total}"
        assert answer.content == (expected * 12)[1000:2000]
    command = ["curl", "-sS", "--noproxy", "*", "-C", "1048570", "-w", "%{http_code}", serve.url("web") + "/file"]
    resumed = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert resumed.stdout == bytes(range(250, 256)) + b"206"
    assert serve.get("web", path="/file", headers={"Range": "bytes=2000000-"}).status_code == 416


def test_trailers_of_a_server_reach_who_asks_for_them(serve: Serve) -> None:
    for te, there in (("TE: trailers", True), ("X-No: te", False)):
        command = ["curl", "-sS", "--noproxy", "*", "--raw", "-i", "-X", "POST", "-H", te, serve.url("ranges")]
        out = subprocess.check_output(command)
        assert out.count(b"body") == 1
        assert out.endswith(b"0\r\nX-Sum: 42\r\n\r\n" if there else b"0\r\n\r\n")


def test_clients_of_http_1_0(serve: Serve) -> None:
    parts = urlsplit(serve.url("web"))
    host = f"{parts.hostname}:{parts.port}".encode()
    for path, keeps, length in ((b"/source?size=10", True, True), (b"/source?size=10&declared=false", False, False)):
        with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=60) as client:
            client.sendall(b"GET %b HTTP/1.0\r\nHost: %b\r\nConnection: keep-alive\r\n\r\n" % (path, host))
            got = b""
            while not got.endswith(bytes(range(10))):
                got += client.recv(65536)
            head = got.partition(b"\r\n\r\n")[0].lower()
            assert b"chunked" not in head
            assert (b"content-length: 10" in head) == length
            assert (b"connection: keep-alive" in head) == keeps
            if keeps:
                client.sendall(b"GET %b HTTP/1.0\r\nHost: %b\r\n\r\n" % (path, host))
                got = b""
            while data := client.recv(65536):
                got += data
            assert got.endswith(bytes(range(10))) or not keeps


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["web", "sockets"])
def test_websocket_messages_of_100_mb_compressed(serve: Serve, name: str) -> None:
    block = os.urandom(1000) + bytes(9000)
    message = block * (100 * MB // len(block))
    address = serve.url(name).replace("http", "ws", 1) + "/ws"
    with connect(address, max_size=2**28, proxy=None, open_timeout=60, ping_interval=None, close_timeout=60) as ws:
        assert any(isinstance(extension, PerMessageDeflate) for extension in ws.protocol.extensions)
        ws.send(message)
        assert ws.recv(timeout=200) == message


def test_pings_and_closes_with_code_and_reason(serve: Serve) -> None:
    for name in ("web", "sockets"):
        address = serve.url(name).replace("http", "ws", 1) + "/ws"
        with connect(address, proxy=None, open_timeout=60) as ws:
            assert ws.ping(b"a ping of the client's").wait(30)
            if name == "sockets":
                ws.send("ping me")
                assert ws.recv(timeout=30) == "you were there"
            ws.send("close")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=30)
            assert closed.value.rcvd is not None
            reason = "the app's reason" if name == "web" else "the server's reason"
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4003, reason)
        with connect(address, proxy=None, open_timeout=60) as ws:
            ws.close(4002, "the client's reason")
    for who in ("app", "socket"):
        said = f"{who} closed with 4002 the client's reason"
        until(lambda said=said: said in app_log(serve.place, "streams"), 30, said)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["waits", "generates", "threads", "shielded", "endpoint"])
def test_a_client_that_leaves_cancels_the_handler(serve: Serve, name: str) -> None:
    url = serve.url("endpoint") if name == "endpoint" else f"{serve.url('web')}/{name}"
    end = {"waits": "was cancelled", "endpoint": "was cancelled", "shielded": "went on"}.get(name, "was closed")
    with httpx.Client(trust_env=False, timeout=60) as client:
        if name in ("generates", "threads"):
            with client.stream("GET", url) as answer:
                next(answer.iter_raw())
        else:
            parts = urlsplit(url)
            with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=60) as raw:
                raw.sendall(f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
                until(lambda: f"{name} begins" in app_log(serve.place, "streams"), 60, "the handler")

        def ended() -> bool:
            client.get(f"{serve.url('web')}/collect")
            return f"{name} {end}" in app_log(serve.place, "streams")

        until(ended, 60, f"{name} {end}")
        # The container serves on.
        assert client.get(f"{serve.url('web')}/source?size=5").content == bytes(range(5))
