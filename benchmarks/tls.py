"""tls: the same application through the same gateway, plain and by TLS from certificate files, loaded with wrk."""

from __future__ import annotations

import statistics
import subprocess
from typing import TYPE_CHECKING

from benchmarks import client
from benchmarks.platform import App, Platform
from benchmarks.results import Comparison, Figure, Result

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.plan import Plan

WARM_UP_SECONDS = 1.0
BULK = 2**20

PROGRAM = f"""
import zygo

app = zygo.App("tls", image=zygo.Image.debian_slim().pip_install("fastapi"))
BULK = b"x" * {BULK}


async def answer(scope, receive, send):
    body = BULK if scope["path"] == "/bulk" else b"hello"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    return answer
"""

CASES = (
    ("16 connections", "/", 16, ()),
    ("a connection for each request, 16 at once", "/", 16, ("Connection: close",)),
    ("answers of 1 MiB, 4 connections", "/bulk", 4, ()),
)


def run(plan: Plan) -> Result:
    """Rounds that alternate between plain and TLS; both meet the same container."""
    result = Result(
        "tls", "throughput of an ASGI application through the gateway, plain and TLS 1.3, wrk with one thread"
    )
    result.settings = {
        "certificate": "ECDSA P-256, one pair",
        "rounds": f"{plan.rounds} of {plan.load_seconds:g} s each, alternating",
    }
    with Platform() as platform:
        pair = _certificate(platform.folder)
        names = ("ZYGO_TLS_CERT", "ZYGO_TLS_KEY")
        platform.environment |= {**dict(zip(names, pair, strict=True)), "ZYGO_TLS_PORT": "0"}
        program = platform.sources / "tls.py"
        program.write_text(PROGRAM)
        with platform.serve(program) as app:
            for case in CASES:
                _measure(result, plan, app, *case)
    return result


def _measure(
    result: Result, plan: Plan, app: App, what: str, path: str, connections: int, headers: tuple[str, ...]
) -> None:
    status = app.platform.status()
    urls = (
        f"http://127.0.0.1:{status['gateway']['port']}{path}",
        f"https://127.0.0.1:{status['https_port']}{path}",
    )
    host = "Host: local--tls-web-dev.localhost"

    def load(url: str, seconds: float) -> client.Load:
        return client.wrk(url, connections=connections, seconds=seconds, headers=(host, *headers))

    for url in urls:
        load(url, WARM_UP_SECONDS)
    found: tuple[list[client.Load], list[client.Load]] = ([], [])
    for number in range(plan.rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            found[side].append(load(urls[side], plan.load_seconds))
    for name, loads in zip(("plain", "TLS"), found, strict=True):
        failed = sum(each.failed for each in loads)
        result.figures += [
            Figure(f"{name}, {what}", "req/s", tuple(each.rate for each in loads), failed),
            Figure(f"{name}, {what}, p50", "us", tuple(each.p50 for each in loads)),
        ]
    ratio = statistics.median(b.rate / a.rate for a, b in zip(*found, strict=True))
    result.comparisons.append(Comparison(f"throughput TLS / plain, {what}", ratio, "", "higher"))


def _certificate(folder: Path) -> tuple[str, str]:
    """A certificate that has signed itself, and its key; wrk believes every one."""
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:*.localhost", "-keyout", key, "-out", certificate)
    subprocess.run(["openssl", "req", "-x509", *made, *names], check=True, capture_output=True)
    return certificate, key
