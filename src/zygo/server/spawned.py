"""Spawned calls over HTTP: accept, wait for results, look, cancel. The bodies with payloads are frames, passed on unread."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zygo.errors import (
    Error,
    InternalFailure,
    InvalidError,
    NotFoundError,
    OutputExpiredError,
    RequestSizeError,
    to_json,
)
from zygo.model import CallState, encode
from zygo.sdk import frames
from zygo.store.calls import NewCall, Payload
from zygo.store.payloads import INLINE_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from zygo.gateway.calls import Dispatcher
    from zygo.server.called import CalledFunctions
    from zygo.store.calls import Result
    from zygo.store.payloads import PayloadFiles

MAX_REQUEST = 256 * 2**20
"""Bytes of inputs in one request; it is held whole."""

MOST_WANTED = 1000
"""Results that one request may ask for."""

ANSWER_BYTES = 16 * 2**20
"""After so many bytes of results the others wait for the next request."""

LONGEST_WAIT = 30.0
"""Seconds that one request waits for a result; then it is asked again."""


class SpawnedApi:
    """The routes. Everything that is checked of a function is checked here; the dispatcher counts and keeps."""

    def __init__(self, functions: CalledFunctions, dispatcher: Dispatcher) -> None:
        self._functions = functions
        self._dispatcher = dispatcher
        self._files: PayloadFiles = dispatcher.store.files

    @property
    def routes(self) -> list[Route]:
        """For the application that serves them."""
        return [
            Route("/v1/calls", self.spawn, methods=["POST"]),
            Route("/v1/calls/{id}", self.look),
            Route("/v1/calls/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/v1/results", self.results, methods=["POST"]),
        ]

    async def spawn(self, request: Request) -> Response:
        """Calls with their inputs; the answer says for each what became of it."""
        answers: list[int | Error] = []
        new: list[NewCall] = []
        for head, payloads in _read_calls(await request.body()):
            try:
                new.append(await self._new_call(head, payloads))
                answers.append(0)
            except Error as error:
                answers.append(error)
        added = iter(await self._dispatcher.spawn(new))
        answers = [answer if isinstance(answer, Error) else next(added) for answer in answers]
        for owner in {call.owner for call in new}:
            if not self._functions.is_live(owner):  # it ended while this was written
                await self._dispatcher.cancel_app(owner, "its app has ended")
        said = [{"error": to_json(a)} if isinstance(a, Error) else {"added": a} for a in answers]
        return JSONResponse({"calls": said})

    async def _new_call(self, head: dict[str, Any], payloads: list[bytes]) -> NewCall:
        identifier, function_id, first = str(head.get("id")), str(head.get("function")), head.get("first", 0)
        if not identifier.startswith("fc-") or len(identifier) > 64 or not identifier.isascii():
            raise InvalidError(f"{identifier[:40]!r} is not an id of a call.")
        if not isinstance(first, int) or first < 0:
            raise InvalidError("The number of a call's first input is not a number from 0 on.")
        app, function = self._functions.spawnable(function_id)
        kept = [await self._kept(data) for data in payloads]
        return NewCall(
            id=identifier,
            owner=app.key,
            app=app.name,
            function=function.name,
            function_id=function.id,
            python=str(head.get("python") or "")[:32],
            payloads=tuple(kept),
            first=first,
        )

    async def _kept(self, data: bytes) -> Payload:
        if len(data) <= INLINE_BYTES:
            return Payload(data)
        return Payload(None, await asyncio.to_thread(self._files.put, data))

    async def look(self, request: Request) -> Response:
        """A call: its function, how many inputs, and how many of them are in each state."""
        return JSONResponse(encode(await self._dispatcher.call(request.path_params["id"])))

    async def cancel(self, request: Request) -> Response:
        """Cancel a call. Says how many inputs were."""
        asked = _object(await request.body())
        reason = "somebody asked for that"
        kill = asked.get("terminate_containers") is True
        return JSONResponse({"inputs": await self._dispatcher.cancel(request.path_params["id"], reason, kill=kill)})

    async def results(self, request: Request) -> Response:
        """The results of some inputs: those that are there, at least one, or none when the time is up."""
        asked = _object(await request.body())
        try:
            wanted = [(str(call_id), int(number)) for call_id, number in asked["wanted"]]
            seconds = min(max(float(asked.get("seconds", 0.0)), 0.0), LONGEST_WAIT)
        except (KeyError, TypeError, ValueError):
            raise InvalidError('Write {"wanted": [["fc-...", 0], ...], "seconds": 10}.') from None
        if not 0 < len(wanted) <= MOST_WANTED:
            raise InvalidError(f"One request asks for 1 to {MOST_WANTED} results.")
        parts: list[bytes] = []
        size = 0
        for place, result in enumerate(await self._dispatcher.results(wanted, seconds)):
            if result is not None and result.state is CallState.PENDING:
                continue
            if size > ANSWER_BYTES:
                break
            parts.append(await self._frame(place, *wanted[place], result))
            size += len(parts[-1])
        return Response(b"".join(parts), media_type="application/x-zygo-frames")

    async def _frame(self, place: int, call_id: str, number: int, result: Result | None) -> bytes:
        if result is None:
            return _said(place, await self._missing(call_id, number))
        data = result.payload.data
        if data is None:
            try:
                data = await asyncio.to_thread(self._files.get, result.payload.file or "")
            except OSError as error:
                return _said(place, InternalFailure(f"The result of {call_id} is lost: {error.strerror or error}"))
        return frames.frame(result.kind.encode("latin-1"), place, data)

    async def _missing(self, call_id: str, number: int) -> Error:
        """Why there is no such input."""
        try:
            found = await self._dispatcher.call(call_id)
        except NotFoundError as error:
            return error
        if found.expired:
            return OutputExpiredError(f"The results of the call {call_id} were kept for 7 days and are gone.")
        return InvalidError(
            f"The call {call_id} has {found.inputs} inputs, counted from 0; there is no number {number}."
        )


def _read_calls(body: bytes) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Each call's description and its inputs. Raises InvalidError, RequestSizeError."""
    if len(body) > MAX_REQUEST:
        raise RequestSizeError(f"The inputs of one request are larger than {MAX_REQUEST // 2**20} MiB.")
    found: list[tuple[dict[str, Any], list[bytes]]] = []
    reader = frames.Reader()
    for kind, _, _, data in reader.feed(body):
        if kind == frames.CALL:
            found.append((_object(data), []))
        elif kind == frames.INPUT and found:
            found[-1][1].append(data)
        else:
            raise InvalidError("The body is not calls with their inputs.")
    if reader.incomplete or not found or not all(payloads for _, payloads in found):
        raise InvalidError("The body is not calls with their inputs.")
    return found


def _object(data: bytes) -> dict[str, Any]:
    try:
        read = json.loads(data or b"{}")
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise InvalidError("What was sent is not a JSON object.")
    return read


def _said(place: int, error: Error) -> bytes:
    return frames.frame(frames.SAID, place, json.dumps(to_json(error)).encode())
