"""The request log: every request while a person could read it, a count beyond that, and failures in any case."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zygo.gateway.routes import RequestRecord
from zygo.server import requests
from zygo.server.app_logs import AppLogs
from zygo.server.log_lines import decode
from zygo.server.sessions import Session

if TYPE_CHECKING:
    from pathlib import Path


def record(status: int = 200, function: str = "square", error: str | None = None) -> RequestRecord:
    return RequestRecord(
        function, "app", "GET", "/", status, "warm", 0.0, 0.0, 0.001, 0.002, "id", "c-1", "127.0.0.1", error
    )


class Seen(Session):
    def __init__(self) -> None:
        super().__init__("app", "app.py")
        self.requests: list[int] = []

    def emit(self, event: dict[str, object]) -> None:
        assert event["type"] == "request"
        self.requests.append(int(str(event["status"])))


def told(records: list[RequestRecord], folder: Path) -> tuple[list[int], list[tuple[str, str]], str]:
    """The requests that were shown, the lines that were said, and the file."""
    said: list[tuple[str, str]] = []

    async def run() -> list[int]:
        seen = Seen()
        logs = AppLogs(folder, 2**20)
        file = logs.open("app", ephemeral=False)
        log = requests.RequestLog(seen, file, lambda function, text: said.append((function, text)))
        for each in records:
            log.add(each)
        log.close()
        log.close()
        file.close()
        await logs.close()
        return seen.requests

    shown = asyncio.run(run())
    lines = [decode(line) for line in (folder / "app" / "log.jsonl").read_bytes().splitlines()]
    return shown, said, "".join(f"{line.function} {line.stream} {line.text}\n" for line in lines if line is not None)


def test_few_requests_are_shown_one_by_one(tmp_path: Path) -> None:
    shown, said, file = told([record(), record(404), record(500, error="ValueError")], tmp_path)
    assert shown == [200, 404, 500]
    assert said == []
    assert file.splitlines() == [
        "square request GET / 200 warm 2.0 ms id",
        "square request GET / 404 warm 2.0 ms id",
        "square request GET / 500 warm 2.0 ms id ValueError",
    ]


def test_a_flood_is_counted_by_status(tmp_path: Path) -> None:
    shown, said, file = told([record()] * (requests.SHOWN + 30) + [record(404)] * 2, tmp_path)
    assert shown == [200] * requests.SHOWN
    assert said == [
        ("square", "32 more requests in this second: 30 with 200, 2 with 404; 2.0 ms on average, 2.0 at most")
    ]
    assert len(file.splitlines()) == requests.SHOWN


def test_failures_in_a_flood_are_shown(tmp_path: Path) -> None:
    flood = [record()] * requests.SHOWN
    shown, said, _ = told([*flood, record(502, error="died"), record(499), record(), record(function="cube")], tmp_path)
    assert shown[requests.SHOWN :] == [502, 499]
    assert said == [("", "2 more requests in this second: 2 with 200; 2.0 ms on average, 2.0 at most")]
