"""The clients: one raw request with its times, and wrk for load."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REQUEST_SECONDS = 30.0
"""For one answer; nothing measured here takes a tenth of it."""


@dataclass(frozen=True)
class Answer:
    """One exchange on a connection of its own. `seconds` is from before connect() to the first byte."""

    status: int
    body: bytes
    seconds: float


def get(port: int, path: str = "/", *, host: str | None = None) -> Answer:
    """GET from 127.0.0.1 on a connection of its own. Raises OSError, ValueError for what is not HTTP."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\nConnection: close\r\n\r\n".encode()
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
        data = sock.recv(65536)
        seconds = time.perf_counter() - began
        while chunk := sock.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    fields = head.split(None, 2)
    if len(fields) < 2 or not fields[0].startswith(b"HTTP/"):
        raise ValueError(f"no HTTP answer but {data[:80]!r}")
    return Answer(int(fields[1]), _joined(head, body), seconds)


def _joined(head: bytes, body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2 :] if length else b""
    return whole


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers per second, latency percentiles in microseconds, failures (socket errors, not 2xx)."""

    rate: float
    p50: float
    p99: float
    requests: int
    failed: int


_SCRIPT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nJSON {"requests": %d, "micros": %d, "p50": %d, "p99": %d, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk(url: str, *, connections: int, seconds: float, headers: tuple[str, ...] = ()) -> Load:
    """Load `url` with one wrk thread; `headers` are lines such as `Host: x`. Raises RuntimeError when wrk is missing or fails."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("the benchmark `warm` needs wrk: sudo apt install wrk")
    with tempfile.TemporaryDirectory(prefix="zgwrk") as folder:
        script = Path(folder, "report.lua")
        script.write_text(_SCRIPT)
        command = [program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
        command += [*(word for line in headers for word in ("-H", line)), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + REQUEST_SECONDS)
    for line in done.stdout.splitlines():
        if line.startswith("JSON "):
            found = json.loads(line[5:])
            rate = found["requests"] / (found["micros"] / 1e6)
            return Load(rate, float(found["p50"]), float(found["p99"]), found["requests"], found["failed"])
    raise RuntimeError(f"wrk failed on {url}: {(done.stderr or done.stdout).strip()[-300:]}")
