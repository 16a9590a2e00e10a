"""A server that keeps the control API's contract and serves nothing: what the command line is tested against.

`python -m fake_server --on-demand --ready-fd N`, like the real one. It takes the place from the settings'
environment, holds a lock, records every request in <data_dir>/record.jsonl and does with a revision what
<data_dir>/answers.json says: a list of lists of events, one list per revision; by default it is published at once.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import fcntl
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from zygo import errors
from zygo.version import fingerprint, version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


class Fake:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.sessions: dict[str, tuple[str, asyncio.Queue[dict[str, Any] | None]]] = {}
        self.blobs: set[str] = set()
        self.revisions = 0
        self.server: uvicorn.Server | None = None

    def note(self, kind: str, **values: Any) -> None:
        with open(self.data_dir / "record.jsonl", "a") as file:
            file.write(json.dumps({"kind": kind, "pid": os.getpid(), **values}) + "\n")

    async def status(self, request: Request) -> Response:
        overlay = self.data_dir / "status.json"
        extra = json.loads(overlay.read_text()) if overlay.exists() else {}
        apps = [{"name": app, "state": "active", "functions": []} for app, _ in self.sessions.values()]
        status = {"version": version(), "fingerprint": fingerprint(), "pid": os.getpid(), "started_at": 0.0}
        gateway = {"host": "127.0.0.1", "port": 8000, "requested_port": 8000}
        return JSONResponse(
            {**status, "gateway": gateway, "domain": "localhost", "apps": apps, "warnings": [], **extra}
        )

    async def stop(self, request: Request) -> Response:
        assert self.server is not None
        replaced = bool((await request.json()).get("replaced"))
        self.note("stop", replaced=replaced)
        ended = {"type": "ended", "reason": "the server is stopping", "code": "replaced" if replaced else "stopped"}
        for _, queue in self.sessions.values():
            queue.put_nowait(ended)
        self.server.should_exit = True
        self.server.force_exit = True
        return JSONResponse({})

    async def open(self, request: Request) -> Response:
        body = await request.json()
        if any(app == body["app"] for app, _ in self.sessions.values()) and not body["force"]:
            return refusal(errors.ConflictError(f"App {body['app']!r} is served already. Take over with --force."))
        identifier = f"s-{len(self.sessions)}-{os.getpid()}"
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        for key, (app, queue) in list(self.sessions.items()):
            if app == body["app"]:
                queue.put_nowait({"type": "ended", "reason": "another serve took over"})
                queue.put_nowait(None)
                del self.sessions[key]
        self.sessions[identifier] = (body["app"], events)
        self.note("session", id=identifier, **body)
        return StreamingResponse(self._events(identifier, events), media_type="application/x-ndjson")

    async def _events(self, identifier: str, events: asyncio.Queue[dict[str, Any] | None]) -> AsyncIterator[str]:
        try:
            yield json.dumps({"type": "session", "id": identifier}) + "\n"
            while (event := await self._next(events)) is not None:
                yield json.dumps(event) + "\n"
        finally:
            self.sessions.pop(identifier, None)
            self.note("closed", id=identifier)

    async def _next(self, events: asyncio.Queue[dict[str, Any] | None]) -> dict[str, Any] | None:
        try:
            return await asyncio.wait_for(events.get(), 5.0)
        except TimeoutError:
            return {"type": "ping"}

    async def hold(self, request: Request) -> Response:
        self.note(request.url.path.rpartition("/")[2])
        return JSONResponse({})

    async def missing(self, request: Request) -> Response:
        wanted = (await request.json())["sha256"]
        self._save()
        return JSONResponse({"missing": [item for item in wanted if item not in self.blobs]})

    def _save(self) -> None:
        """Save a file, as its author might do just before its content is read."""
        if (save := self.data_dir / "save.json").exists():
            for path, text in json.loads(save.read_text()).items():
                Path(path).write_text(text)
            save.unlink()

    async def blob(self, request: Request) -> Response:
        self.blobs.add(request.path_params["sha256"])
        self.note("blob", content=(await request.body()).decode("utf-8", "replace"))
        return JSONResponse({})

    async def revision(self, request: Request) -> Response:
        body = await request.json()
        app = body["app"]
        for sha256, text in body.get("content", {}).items():
            self.blobs.add(sha256)
            self.note("blob", content=base64.b64decode(text).decode("utf-8", "replace"))
        self.revisions += 1
        self.note("revision", app=app)
        answers = self.data_dir / "answers.json"
        left = json.loads(answers.read_text()) if answers.exists() else []
        events = left.pop(0) if left else [published(app, self.revisions)]
        if answers.exists():
            answers.write_text(json.dumps(left))
        return StreamingResponse(self._play(events), media_type="application/x-ndjson")

    async def _play(self, events: list[dict[str, Any]]) -> AsyncIterator[str]:
        try:
            for event in events:
                if event["type"] == "hang":
                    await asyncio.sleep(60)
                yield json.dumps(event) + "\n"
        except asyncio.CancelledError:
            self.note("gave up")
            raise

    async def emit(self, request: Request) -> Response:
        event = await request.json()
        for _, queue in self.sessions.values():
            queue.put_nowait(event)
        return JSONResponse({})

    async def logs(self, request: Request) -> Response:
        return PlainTextResponse("".join(f"line {i}\n" for i in range(int(request.query_params["tail"]))))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/status", self.status),
                Route("/v1/stop", self.stop, methods=["POST"]),
                Route("/v1/sessions", self.open, methods=["POST"]),
                Route("/v1/sessions/{id}/hold", self.hold, methods=["POST"]),
                Route("/v1/sessions/{id}/release", self.hold, methods=["POST"]),
                Route("/v1/sessions/{id}/revisions", self.revision, methods=["POST"]),
                Route("/v1/blobs/missing", self.missing, methods=["POST"]),
                Route("/v1/blobs/{sha256}", self.blob, methods=["PUT"]),
                Route("/v1/logs", self.logs),
                Route("/test/emit", self.emit, methods=["POST"]),
            ]
        )


def refusal(error: errors.Error) -> Response:
    return JSONResponse({"error": errors.to_json(error)}, status_code=error.http_status)


def published(app: dict[str, Any], number: int) -> dict[str, Any]:
    functions = []
    for function in app["functions"]:
        web = function["web"] or {}
        values = {"method": web.get("method", "GET"), "sample": "?x=1"}
        functions.append({"name": function["name"], "url": f"http://127.0.0.1:9/{function['name']}", **values})
    return {"type": "published", "revision": f"r-{number}", "seconds": {"load": 0.02}, "functions": functions}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    ready_fd = parser.parse_args().ready_fd
    data_dir, runtime_dir = Path(os.environ["ZYGO_DATA_DIR"]), Path(os.environ["ZYGO_RUNTIME_DIR"])
    runtime_dir.mkdir(parents=True, exist_ok=True)
    lock = open(data_dir / "server.lock", "a+")  # noqa: SIM115 - held until the process ends
    fake = Fake(data_dir)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        taken = errors.AlreadyExistsError("another server uses this data directory")
        os.write(ready_fd, json.dumps({"error": errors.to_json(taken)}).encode() + b"\n")
        sys.exit(1)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    if (broken := data_dir / "broken").exists():
        broken.unlink()
        print("Traceback: the fake server is broken", flush=True)
        sys.exit(1)
    fake.note("start")
    path = runtime_dir / "control.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    os.write(ready_fd, b"ready\n")
    os.close(ready_fd)
    asyncio.run(serve(fake, listener))


async def serve(fake: Fake, listener: socket.socket) -> None:
    config = uvicorn.Config(fake.app(), log_level="warning", lifespan="off")
    fake.server = uvicorn.Server(config)
    await fake.server.serve(sockets=[listener])


if __name__ == "__main__":
    main()
