"""Requests that stay open until the test ends them: real concurrency, shown without a clock."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from zygo.testing.harness import Place

SECONDS = 30.0

HOLD = """
async def answer(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    name = os.environ["ZYGO_CONTAINER_ID"].encode() + b"\\n"
    await send({"type": "http.response.body", "body": name, "more_body": True})
    while (message := await receive()).get("more_body"):
        pass
    print("the caller left" if message["type"] == "http.disconnect" else "the caller is done", flush=True)
    await send({"type": "http.response.body", "body": b"done\\n"})


def hold():
    return answer
"""
"""An asgi_app for `Held`: says who it is and ends when the caller's body does. The program imports os."""


class Held:
    """One request to a `hold` handler, in flight until `finish`; `container` is who serves it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        self._connection.putrequest("POST", parts.path or "/")
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.endheaders()
        self._connection.send(b"1\r\nx\r\n")
        # http.client closes its socket at "Connection: close", which an answer ahead of the body's end has.
        self._socket = self._connection.sock.dup()
        self._response: http.client.HTTPResponse | None = None
        self._container = ""

    @property
    def container(self) -> str:
        """Waits until it is being served."""
        if self._response is None:
            self._response = self._connection.getresponse()
            assert self._response.status == 200, self._response.read()
            self._container = self._response.readline().decode().strip()
        return self._container

    def answered(self) -> bool:
        """Whether the answer has begun; does not wait."""
        return self._response is not None or bool(select.select([self._socket], [], [], 0)[0])

    def finish(self) -> str:
        """Let it end; the container that served it."""
        self._socket.sendall(b"0\r\n\r\n")
        name = self.container
        assert self._response is not None
        assert self._response.read() == b"done\n"
        self.leave()
        return name

    def leave(self) -> None:
        """Close the connection, whether it has ended or not. May be called twice."""
        if self._response is not None:
            self._response.close()
        self._socket.close()
        self._connection.close()


class Many:
    """Several held requests, all of them ended or left at the end of the block."""

    def __init__(self, url: str, count: int) -> None:
        self.held = [Held(url) for _ in range(count)]

    def __enter__(self) -> list[Held]:
        return self.held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.held:
            each.leave()


@dataclass(frozen=True)
class Answer:
    """One answer of `burst`."""

    status: int
    body: str
    seconds: float


def burst(url: str, count: int, seconds: float = 120.0) -> list[Answer]:
    """`count` GET requests at once, each on its own connection."""

    async def one(client: httpx.AsyncClient) -> Answer:
        began = time.monotonic()
        response = await client.get(url)
        return Answer(response.status_code, response.text, time.monotonic() - began)

    async def body() -> list[Answer]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=seconds, trust_env=False, verify=False) as client:
            return await asyncio.gather(*(one(client) for _ in range(count)))

    return asyncio.run(body())


def ask(url: str, method: str = "GET", **how: Any) -> httpx.Response:
    """One request on a connection of its own. A hostname that the C library does not know is reached as curl reaches it:
    on this machine."""
    parts = httpx.URL(url)
    headers = {"Host": parts.netloc.decode(), **how.pop("headers", {})}
    with httpx.Client(trust_env=False, verify=False, timeout=SECONDS) as client:
        return client.request(method, parts.copy_with(host="127.0.0.1"), headers=headers, **how)


def overlap(spans: Sequence[tuple[float, float]]) -> int:
    """How many of the (start, end) spans were open at the same moment, at most."""
    steps = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def function_status(place: Place, name: str, app: str = "") -> dict[str, int]:
    """Containers and waiting requests of a function (of `app`, when it is told), as the server says."""
    status = place.status()
    assert status is not None, place.server_log()
    apps = [each for each in status["apps"] if app in ("", each["name"])]
    found = [f for each in apps for f in each["functions"] if f["name"] == name]
    return {key: int(found[0][key]) for key in ("containers", "waiting")} if found else {}


def app_log(place: Place, app: str) -> str:
    """What the server kept of an app's output, deployed and served: function, stream and text of each line."""
    folders = [place.data / "logs" / "apps" / name for name in (app, f"{app}@dev")]
    found = ""
    for path in [folder / name for folder in folders for name in ("log.2.jsonl", "log.1.jsonl", "log.jsonl")]:
        with contextlib.suppress(FileNotFoundError):  # also between two names, while it is rotated
            found += path.read_text("utf-8", "replace")
    lines = [json.loads(line) for line in found.split("\n") if line.endswith("}")]
    return "".join(f"{line['function']} {line['stream']} {line['text']}\n" for line in lines)


def host_pids(place: Place, container: str) -> list[int]:
    """The processes of a container, by their pids on the host; needs control groups."""
    [group] = [path for path in place.cgroups() if path.name == container and "pids" in path.parts]
    return [int(line) for line in (group / "cgroup.procs").read_text().split()]
