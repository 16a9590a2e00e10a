"""A function that is called, not requested, as an ASGI application: frames of inputs in, frames of outputs out.

One POST carries the inputs of one slot, nearly always one. The answer has a length when all is there at once; a generator's
items, and several inputs' results, go out as they come.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from zygo.guest import batched, runner
from zygo.guest.entry import over
from zygo.guest.incoming import Incoming
from zygo.guest.job import PATIENCE, Job
from zygo.guest.leaving import uninterrupted
from zygo.sdk import frames, payload, remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.guest.entry import Entry

OBEY_SECONDS = 5.0
"""How long code that was stopped may go on before its container is ended."""

ASK_AGAIN = 1.0
"""Seconds between two interruptions of code that catches them."""

_WARM_METHOD = "PROPFIND"
_EXIT_STUBBORN = 70


class App:
    """The application of one function that has no URL. The same steps as `web.App`: all of it is ours, so it is made in the
    revision zygote and shared; its runner starts in the container."""

    lifespan = False

    def __init__(self, function: Entry, place: runner.Place | None = None) -> None:
        self.function = function
        self.notes: list[str] = []
        self.config: Any = None
        place = place or runner.Place()
        if function.batch is not None:
            self.runner: runner.Runner = batched.Batches(function.raw, function.name, function.batch, place)
        else:
            self.runner = runner.choose(function.raw, function.name, function.max_inputs, place)
        self._jobs: set[Job] = set()
        self._version = platform.python_version().encode()

    @property
    def asgi(self) -> Callable[..., Any]:
        """The application."""
        return self.serve

    def prebuild(self) -> bool:
        """Run one stand-in call through everything that does not need a container."""
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._rehearse())
        finally:
            loop.close()
        return True

    @property
    def beside(self) -> runner.Place | None:
        """What has the main thread while the event loop is in another."""
        return getattr(self.runner, "place", None)

    tunnel = None

    def fits(self, variant: dict[str, Any]) -> bool:
        """Whether it can serve that variant as it is."""
        return not over(variant)

    def enter(self, run: Any, variant: dict[str, Any]) -> None:
        """Nothing: a function begins with its first input."""

    def exit(self, run: Any) -> None:
        """Nothing."""

    def build(self) -> Callable[..., Any]:
        """The application."""
        return self.serve

    @contextmanager
    def warm_route(self, answer: Any = None) -> Iterator[bytes | None]:
        """A request line whose answer goes the way of a call's, without the user's function."""
        yield f"{_WARM_METHOD} / HTTP/1.1".encode()

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] == _WARM_METHOD:
            await self._answer(await self._stand_in(), send)
            return
        uninterrupted(receive)  # the job is, by `_Left`
        headers = {name: value for name, value in scope["headers"] if name.startswith(b"zygo-")}
        message = await receive()
        incoming = _large_input(scope, message)
        if incoming is None:
            body = await _body(message, receive)
            if body is None:
                return
            job = self._job(headers, body)
        else:
            job = self._large_job(headers, incoming)
        self._jobs.add(job)
        left = _Left(receive, lambda: self._stop(job, "its caller left", None))
        watch = self._watch(job)
        self.runner.submit(job)
        try:
            if incoming is not None:
                await _pump(incoming, receive)
            await self._answer(job, send)
        finally:
            watch.cancel()
            left.forget()
            self._jobs.discard(job)
            job.finish()

    def _job(self, headers: dict[bytes, bytes], body: bytes) -> Job:
        call = headers.get(b"zygo-call", b"").decode("latin-1")
        inputs = [
            (index, f"{call}:{index}" if index else call.replace("fc-", "in-", 1), data)
            for kind, index, _, data in frames.Reader().feed(body)
            if kind == frames.INPUT
        ]
        origin = headers.get(b"zygo-python", b"").decode("latin-1")
        return Job(asyncio.get_running_loop(), inputs, call, origin, sys.path[0])

    def _large_job(self, headers: dict[bytes, bytes], incoming: Incoming) -> Job:
        call = headers.get(b"zygo-call", b"").decode("latin-1")
        origin = headers.get(b"zygo-python", b"").decode("latin-1")
        inputs = [(0, call.replace("fc-", "in-", 1), incoming)]
        return Job(asyncio.get_running_loop(), inputs, call, origin, sys.path[0])

    async def _answer(self, job: Job, send: Any) -> None:
        data = await job.output()
        kind = (b"content-type", b"application/x-zygo-frames")
        version = (b"zygo-python", self._version)
        if job.done:
            data += await job.output()
            length = (b"content-length", str(len(data)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [kind, version, length]})
            await send({"type": "http.response.body", "body": data})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [kind, version]})
        while data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await job.output()
        await send({"type": "http.response.body", "body": b""})

    # -- time ---------------------------------------------------------------------------------------------------------

    def _watch(self, job: Job) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        timeout = self.function.timeout
        if job.single:
            return loop.call_later(timeout, self._expire, job)
        holder: list[asyncio.TimerHandle] = []

        def look() -> None:
            if not job.done:
                if job.running_for >= timeout:
                    self._expire(job)
                    return
                if job.running_for >= PATIENCE:
                    job.give_back()
                holder[0] = loop.call_later(min(PATIENCE, timeout), look)

        holder.append(loop.call_later(min(PATIENCE, timeout), look))
        return _Handle(holder)  # type: ignore[return-value]

    def _expire(self, job: Job) -> None:
        # It may have waited for a thread, or for its arguments to arrive: that is not its time.
        left = self.function.timeout - (job.running_for if job.began else 0.0)
        if not job.done and left > 0.001:
            asyncio.get_running_loop().call_later(left, self._expire, job)
            return
        text = f"{self.function.name} did not finish within its timeout of {self.function.timeout:g} s."
        self._stop(job, text.rstrip("."), remote.said("timeout", text))

    def _stop(self, job: Job, reason: str, made: dict[str, Any] | None) -> None:
        if job.stop(reason, made):
            self._insist(job, OBEY_SECONDS)

    def _insist(self, job: Job, left: float) -> None:
        """Interrupt until the code ends; end the container when it does not, unless others are at work in it."""
        if job.done:
            return
        if left > 0:
            self.runner.interrupt(job)
            asyncio.get_running_loop().call_later(ASK_AGAIN, self._insist, job, left - ASK_AGAIN)
        elif all(other is job or other.stopped for other in self._jobs):
            print(
                f"{self.function.name} went on for {OBEY_SECONDS:g} s after it was stopped ({job.stopped}); its container ends.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(_EXIT_STUBBORN)
        else:
            asyncio.get_running_loop().call_later(ASK_AGAIN, self._insist, job, 0.0)

    # -- warming ------------------------------------------------------------------------------------------------------

    async def _rehearse(self) -> None:
        async def send(message: Any) -> None:
            pass

        await self._answer(await self._stand_in(), send)

    async def _stand_in(self) -> Job:
        """A finished job that took every step but the user's function."""
        name = self.function.name
        data = payload.dumps(((1,), {"x": "y"}), f"The arguments of {name}")
        body = frames.frame(frames.INPUT, 0, data)
        job = self._job({b"zygo-call": b"fc-warm", b"zygo-python": self._version}, body)
        given = job.next()
        assert given is not None
        args, _ = payload.loads(given[1], f"The arguments of {name}", job.origin)
        job.settle(frames.VALUE, payload.dumps(args[0], f"The result of {name}"))
        return job


class _Handle:
    """A timer that replaces itself."""

    def __init__(self, holder: list[asyncio.TimerHandle]) -> None:
        self._holder = holder

    def cancel(self) -> None:
        self._holder[0].cancel()


class _Left:
    """Calls `then` when the caller of this request leaves before its answer."""

    def __init__(self, receive: Any, then: Callable[[], None]) -> None:
        # uvicorn's request cycle, whose protocol is ours (serve.py): a task for each request that only waits for this
        # would cost a tenth of the call.
        self._cycle = getattr(receive, "__self__", None)
        if self._cycle is not None:
            self._cycle.on_left = then
            if self._cycle.disconnected:
                then()

    def forget(self) -> None:
        if self._cycle is not None:
            self._cycle.on_left = None


def _large_input(scope: Any, message: Any) -> Incoming | None:
    """The stream of an input that is not to be held whole, begun with `message`; None for all others."""
    if message["type"] != "http.request" or not message.get("more_body"):
        return None
    length = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
    if length <= frames.INLINE_BYTES or len(message["body"]) < frames.HEAD.size:
        return None
    kind, _, _, size = frames.HEAD.unpack_from(message["body"])
    if kind != frames.INPUT or size != length - frames.HEAD.size:
        return None
    incoming = Incoming(asyncio.get_running_loop())
    incoming.feed(message["body"][frames.HEAD.size :])
    return incoming


async def _pump(incoming: Incoming, receive: Any) -> None:
    """Feed the rest of the request's body."""
    try:
        more = True
        while more:
            await incoming.room()
            message = await receive()
            more = message["type"] == "http.request" and bool(message.get("more_body"))
            incoming.feed(message.get("body", b""))
    finally:
        incoming.end()


async def _body(message: Any, receive: Any) -> bytes | None:
    """The request's body, which begins with `message`; None when the caller left before it was complete."""
    if message["type"] != "http.request":
        return None
    if not message.get("more_body"):
        return bytes(message["body"])
    parts = [message["body"]]
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
    return b"".join(parts)
