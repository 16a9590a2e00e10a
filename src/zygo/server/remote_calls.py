"""Calls of functions over TCP: `/calls/<function id>/...` is passed on to the gateway's socket for calls, streaming both ways.

What a caller on this machine writes to that socket arrives there as it is, with the function's id as Host; so a call from
afar has the same admission, limits, answers and errors. `zygo` in the id's place is the server's own calls API.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import httptools

from zygo.errors import ConnectionError as ServerGone
from zygo.errors import NotFoundError
from zygo.server.access import CALL, needed
from zygo.server.guard import caller_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

PREFIX = "/calls/"
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_OWN = re.compile(r"/v1/(?P<kind>functions|calls)/[^/]+(?P<rest>/[a-z]+)?")
_DROPPED = {b"host", b"authorization", b"connection", b"keep-alive", b"te", b"upgrade", b"transfer-encoding", b"expect"}
READ_SIZE = 256 * 1024


class CallsOverTcp:
    """An ASGI application for what lies below PREFIX. `socket` is the gateway's for calls."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on. Raises PermissionDeniedError, NotFoundError, ConnectionError before anything is answered."""
        function, slash, path = scope["path"].removeprefix(PREFIX).partition("/")
        if not _ID.fullmatch(function) or not slash:
            raise NotFoundError("After /calls/ comes a function's id, then a slash.")
        scope_needed = needed(scope["method"], _pattern(f"/{path}")) if function == "zygo" else CALL
        caller_of(scope).require(scope_needed, f"{scope['method']} {scope['path']}")
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        # The path as it was sent: decoding and encoding it again is not always the same.
        raw = scope.get("raw_path") or scope["path"].encode()
        target = raw[len(PREFIX) + len(function) :].partition(b"?")[0] + query
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError as error:
            raise ServerGone(f"Calls cannot be passed on: {error.strerror or error}.") from None
        try:
            await _exchange(scope, function.encode(), target, _Streams(reader, writer), receive, send)
        finally:
            writer.transport.abort()


def _pattern(path: str) -> str:
    """The route of the calls API that a path belongs to."""
    match = _OWN.fullmatch(path)
    return path if match is None else f"/v1/{match['kind']}/{{id}}{match['rest'] or ''}"


class _Streams:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer


async def _exchange(scope: Scope, host: bytes, target: bytes, to: _Streams, receive: Receive, send: Send) -> None:
    headers = [(name, value) for name, value in scope["headers"] if name not in _DROPPED]
    chunked = not any(name == b"content-length" for name, _ in headers) and any(
        name == b"transfer-encoding" for name, _ in scope["headers"]
    )
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target), b"host: " + host]
    lines += [b"%b: %b" % pair for pair in headers]
    lines += [b"transfer-encoding: chunked"] if chunked else []
    to.writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    upwards = asyncio.ensure_future(_send_body(to.writer, receive, chunked))
    downwards = asyncio.ensure_future(_answer(to.reader, send))
    try:
        # `upwards` ends when the caller has left: then nobody wants the answer, and the function hears of it.
        await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (upwards, downwards):
            if not task.done():
                task.cancel()
        await asyncio.wait({upwards, downwards})
    if not downwards.cancelled():
        downwards.result()


async def _send_body(writer: asyncio.StreamWriter, receive: Receive, chunked: bool) -> None:
    """Pass the body on, then wait until the caller leaves."""
    while (message := await receive())["type"] != "http.disconnect":
        if body := message.get("body", b""):
            writer.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
        if chunked and not message.get("more_body"):
            writer.write(b"0\r\n\r\n")
        # A function may answer, and close, before it has read everything: its answer counts.
        with contextlib.suppress(OSError):
            await writer.drain()


async def _answer(reader: asyncio.StreamReader, send: Send) -> None:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.complete:
        data = await reader.read(READ_SIZE)
        if not data:
            if not answer.begun:
                raise ServerGone("The server ended during the call.")
            return  # an answer that is not complete: the connection to the caller is cut
        parser.feed_data(data)
        for message in answer.take(parser):
            await send(message)


class _Answer:
    """httptools' side of an answer: messages for ASGI."""

    def __init__(self) -> None:
        self.begun = self.complete = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._messages: list[dict[str, Any]] = []
        self._status = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in (b"connection", b"keep-alive", b"transfer-encoding"):
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._messages.append({"type": "http.response.start", "headers": self._headers})

    def on_body(self, body: bytes) -> None:
        self._messages.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        self.complete = True
        self._messages.append({"type": "http.response.body", "body": b""})

    def take(self, parser: httptools.HttpResponseParser) -> list[dict[str, Any]]:
        """The messages that have come."""
        found, self._messages = self._messages, []
        for message in found:
            if message["type"] == "http.response.start":
                message["status"] = parser.get_status_code()
                self.begun = True
        return found
