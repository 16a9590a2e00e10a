"""THE REQUEST PATH: one request and its answer, from the checked head to the released slot.

start: route -> admit -> (wait) -> forward -> answered | refused | lost | expired | the client left. Each of these ends
in `_end`, once, which gives everything back and leaves the record. There is no task per request: every step is a call
from the client's connection, the container's connection, the waiting line or the sweep.
"""

from __future__ import annotations

import logging
from random import getrandbits
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, cast

from zygo.errors import Error
from zygo.gateway.admission import QueueFullError, Slot
from zygo.gateway.answers import BadAnswer
from zygo.gateway.checks import IDEMPOTENT, Head
from zygo.gateway.refusals import Refusal, render
from zygo.gateway.routes import Endpoint, RequestRecord
from zygo.gateway.upstream import BackendBusy, Upstream, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.gateway.answers import Answer
    from zygo.gateway.client import ClientConnection
    from zygo.gateway.container import Backend

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_MOVES = 3
"""How often a request that surely reached no user code may be given to another container."""

EXPLAIN_SECONDS = 0.1
"""Under serve a 502 waits this long for the reason, which is known a moment after the connection broke."""

_SILENT, _TIMED_OUT = b"\x03\xe9nothing came.", b"\x03\xe9time is over."
"""What is in a WebSocket's close frame: 1001, going away."""

CLIENT_LEFT: Final = 499
"""The status in the log of a request whose client did not wait for the answer."""


class Exchange:
    """One request. Made by the client's connection when the head is complete; `pending` is the body so far that was not
    sent on, `received` says that the body is complete."""

    # Class attributes are the defaults, so that a request only pays for what it uses.
    endpoint: Endpoint | None = None
    slot: Slot | None = None
    backend: Backend | None = None
    upstream: Upstream | None = None
    received = False
    waiting = False
    ended = False
    head_sent = False
    tunnelling = False
    end_sent = False
    absent = False
    """Whether no client is there to take the answer: see long.py."""
    forwarded = b""
    status = 0
    moves = 0
    deadline = 0.0
    dispatched = 0.0
    first = 0.0
    body_size = 0
    pending_size = 0
    refusal: Refusal | None = None
    error: str | None = None

    def __init__(self, client: ClientConnection, head: Head, arrived: float) -> None:
        self.client = client
        self.head = head
        self.arrived = arrived
        self.pending: list[bytes] = []
        self.id = b"%016x" % getrandbits(64)

    # -- the steps --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """It is this request's turn on its connection: route and admit it."""
        if self.refusal is not None:
            self.refuse(self.refusal)
            return
        client, head = self.client, self.head
        endpoint = self.endpoint = client.endpoint(head.host)
        if endpoint is None:
            if place := client.redirect(head.host):
                self.refuse(Refusal(308, "zygo: this server speaks HTTPS", location=place + head.target))
                return
            host = head.host.decode("latin-1") or "(none)"
            self.refuse(Refusal(404, f"zygo: there is no endpoint at {host}"))
            return
        if endpoint.tokens is not None and (refusal := endpoint.tokens.check(head)) is not None:
            self.refuse(refusal)
            return
        if endpoint.select is not None:
            try:
                endpoint = self.endpoint = endpoint.select(head.target)
            except Error as error:
                self.refuse(Refusal(error.http_status, f"zygo: {error}"))
                return
        limit = client.gateway.max_body if endpoint.max_body is None else endpoint.max_body
        if head.length > limit or self.body_size > limit:
            self.too_large(limit)
            return
        slot = endpoint.admission.try_acquire()
        if slot is not None:
            self._forward(slot)
        else:
            self._wait(endpoint)

    def _wait(self, endpoint: Endpoint, *, front: bool = False) -> None:
        self.waiting = True
        self.deadline = self.arrived + endpoint.queue_timeout
        self.client.deadline = self.deadline
        try:
            endpoint.admission.enqueue(self, front=front)
        except Error as error:
            self.refused(error)

    def granted(self, slot: Slot) -> None:
        """A place became free."""
        self.waiting = False
        self._forward(slot)

    def refused(self, error: Exception) -> None:
        """The line is full, or the function cannot be started."""
        self.waiting = False
        self.error = str(error)
        status = error.http_status if isinstance(error, Error) else 500
        if isinstance(error, QueueFullError):
            self.refuse(Refusal(status, f"zygo: {error}", retry_after=1))
            return
        details = None
        if self.endpoint is not None and self.endpoint.debug:
            details = "\n\n".join(t for t in (str(error), getattr(error, "traceback", "")) if t)
        self.refuse(Refusal(status, "zygo: the function could not be started; its log has the reason", details))

    def _forward(self, slot: Slot) -> None:
        endpoint = self.endpoint
        assert endpoint is not None
        self.slot = slot
        self.dispatched = now = monotonic()
        self.deadline = now + endpoint.timeout
        self.client.deadline = self.deadline
        backend = self.backend = slot.backend
        if backend.idle and not (endpoint.foreign and (self.head.length or self.head.method not in IDEMPOTENT)):
            self.upstream = upstream = cast("Upstream", backend.idle.pop())
            upstream.begin(self)
            return
        try:
            self.upstream = connect(self, backend)
        except BackendBusy:
            self.refuse(Refusal(503, "zygo: the container takes no more connections; try again", retry_after=1))
        except OSError as error:
            self._move(f"container {backend.id} refused the connection: {error}")

    def opening(self) -> bytes:
        """The request's head and as much of its body as is there, for the container."""
        head, length = self.head, self.head.length
        forwarded = self.forwarded or self.client.forwarded_lines(head)
        parts = [b"%b %b HTTP/1.1\r\n%b" % (head.method, head.target, forwarded), *head.lines]
        if self.endpoint is not None and self.endpoint.method:
            parts.insert(1, self.endpoint.method)
        if length > 0:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif length < 0:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif head.method in (b"POST", b"PUT", b"PATCH"):
            parts.append(b"Content-Length: 0\r\n")
        if head.expects and length:
            parts.append(b"Expect: 100-continue\r\n")
        if head.trailers:
            parts.append(b"TE: trailers\r\n")
        if head.upgrade:
            parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade)
        parts.append(b"X-Request-Id: %b\r\n\r\n" % self.id)
        if length:
            parts.append(self.take_body())
        return b"".join(parts)

    def take_body(self) -> bytes:
        """What came of the body since the last call, framed anew."""
        body = b"".join(self.pending)
        self.pending.clear()
        self.pending_size = 0
        if self.head.length >= 0:
            return body
        if body:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if self.received and not self.end_sent:
            self.end_sent = True
            body += b"0\r\n\r\n"
        return body

    def body_arrived(self) -> None:
        """More of the body is in `pending`, or it is complete."""
        upstream = self.upstream
        if upstream is not None and upstream.transport is not None and not upstream.tunnel:
            body = self.take_body()
            if body:
                upstream.write(body)

    def too_large(self, limit: int) -> None:
        """The body is over the limit."""
        self.error = f"the body is larger than {limit} bytes"
        setting = "" if self.endpoint is None or not self.endpoint.url else " (ZYGO_MAX_BODY_BYTES)"
        self.stop(Refusal(413, f"zygo: the request body is larger than the {limit} bytes that are accepted{setting}"))

    # -- the container's answer -------------------------------------------------------------------------------------

    def interim(self, answer: Answer) -> None:
        """A 1xx: 100 Continue or 103 Early Hints."""
        if self.head.modern:
            self.client.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (answer.status, answer.reason, b"".join(answer.lines)))

    def answer_head(self, answer: Answer, *, rechunk: bool) -> bytes:
        """The head for the client. Raises BadAnswer for a protocol switch that was not asked for."""
        parts = [b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason)]
        parts += answer.lines
        if rechunk:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif answer.declared is not None:
            parts.append(b"Content-Length: %b\r\n" % answer.declared)
        if answer.status == 101:
            if not self.head.upgrade:
                raise BadAnswer("the container switched protocols without being asked to")
            parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % (answer.upgrade or self.head.upgrade))
        parts.append(self.answer_tail(answer.status, length_known=rechunk or answer.length >= 0))
        return b"".join(parts)

    def answer_tail(self, status: int, *, length_known: bool) -> bytes:
        """The head is about to go out: what the gateway adds to it, down to the empty line. An answer without a
        length that the client could know ends with the connection."""
        head = self.head
        self.first = monotonic()
        self.head_sent = True
        self.status = status
        tail = b"X-Request-Id: %b\r\n\r\n" % self.id
        if status != 101:
            if not (head.keep_alive and length_known and self.received) or self.client.draining:
                head.keep_alive = False
                tail = b"Connection: close\r\n" + tail
            elif not head.modern:
                tail = b"Connection: keep-alive\r\n" + tail
        if self.endpoint is not None and self.endpoint.debug:
            tail = self._server_timing() + tail
        return tail

    def answered(self, *, reusable: bool) -> None:
        """The answer is complete."""
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.finish(keep=reusable and self.received and not self.head.upgrade)
        self._end()

    def bad_answer(self, reason: str) -> None:
        """The container's answer cannot be passed on."""
        self.error = reason
        self.stop(Refusal(502, "zygo: the container's answer is not valid HTTP", reason if self._debug else None))

    def lost(self, *, fresh: bool) -> None:
        """The connection to the container ended before the answer did."""
        slot, endpoint, head = self.slot, self.endpoint, self.head
        assert slot is not None
        assert endpoint is not None
        backend = slot.backend
        self.upstream = None
        if not (self.head_sent or fresh or head.length) and head.method in IDEMPOTENT and not self.moves:
            self._move(f"container {backend.id} closed a kept connection")
            return
        self.error = f"container {backend.id} died, or closed the connection, in the middle of the request"
        self._died(endpoint, backend)
        if self.head_sent or not endpoint.debug or endpoint.explain(backend) is not None:
            self._refuse_died(endpoint, backend)
        else:
            self._release()
            self.client.gateway.loop.call_later(EXPLAIN_SECONDS, self._refuse_died, endpoint, backend)

    def _refuse_died(self, endpoint: Endpoint, backend: Backend) -> None:
        if self.ended:
            return
        details = endpoint.explain(backend) if endpoint.debug else None
        if details:
            self.error = f"{self.error}: {details}"
        self.stop(Refusal(502, "zygo: the container died while it served this request", details))

    def _move(self, reason: str) -> None:
        """Nothing of the request reached user code: another container may have it, before everyone who waits."""
        slot, endpoint = self.slot, self.endpoint
        assert slot is not None
        assert endpoint is not None
        self.moves += 1
        self.upstream = None
        self._died(endpoint, slot.backend)
        if self.moves > MAX_MOVES:
            self.error = reason
            self.refuse(Refusal(502, "zygo: no container could be reached", reason if self._debug else None))
            return
        log.info("request %s moves: %s", self.id.decode(), reason)
        self._release()
        self._wait(endpoint, front=True)

    def _died(self, endpoint: Endpoint, backend: Backend) -> None:
        endpoint.admission.suspect(backend)
        _guarded(endpoint.on_died, backend)

    # -- tunnels ----------------------------------------------------------------------------------------------------

    def tunnel_begun(self) -> None:
        """The container switched protocols: from now on bytes are bytes, and the timeout is for silence, or goes on."""
        assert self.upstream is not None
        assert self.endpoint is not None
        self.tunnelling = True
        if self.client.gateway.tunnels_end:
            self.client.begin_tunnel(self.upstream, until=self.deadline)
        else:
            self.client.begin_tunnel(self.upstream, silence=self.endpoint.timeout)

    def tunnel_expired(self) -> None:
        """Nothing has come from either side for too long, or it has lasted too long: end it, a WebSocket as its own protocol
        does."""
        assert self.endpoint is not None
        whole = self.client.gateway.tunnels_end
        said = "the connection lasted" if whole else "nothing was sent for"
        self.error = f"{said} {self.endpoint.timeout:g} s, the function's timeout"
        upstream, self.upstream = self.upstream, None
        if self.head.upgrade.lower() == b"websocket":
            payload = _TIMED_OUT if whole else _SILENT
            self.client.write(b"\x88%c%b" % (len(payload), payload))
            if upstream is not None:  # what goes to a server is masked, be it with zeros
                upstream.write(b"\x88%c\0\0\0\0%b" % (0x80 | len(payload), payload))
        if upstream is not None:
            upstream.detach()
            upstream.close()
        self._end()

    def tunnel_ended(self) -> None:
        """The container closed its end."""
        self.upstream = None
        self._end()

    # -- endings that are nobody's answer ---------------------------------------------------------------------------

    def expired(self, now: float) -> None:
        """The deadline has passed: of the wait, or of the function."""
        endpoint = self.endpoint
        if endpoint is None or self.ended:
            return
        if self.waiting:
            endpoint.admission.cancel(self)
            self.waiting = False
            self.error = f"no container became free within {endpoint.queue_timeout:g} s"
            self.refuse(Refusal(504, f"zygo: {self.error}"))
        elif self.slot is not None:
            backend = self.slot.backend
            self.error = f"the function did not finish within its timeout of {endpoint.timeout:g} s"
            details = endpoint.explain(backend) if endpoint.debug else None
            _guarded(endpoint.on_timeout, backend)
            self.stop(Refusal(504, f"zygo: {self.error}", details))

    def client_left(self) -> None:
        """The client closed its connection, or is taken to have."""
        if self.ended:
            return
        self.head.keep_alive = False
        if self.waiting and self.endpoint is not None:
            self.waiting = False
            self.endpoint.admission.cancel(self)
            self.error = self.error or "the client left while the request waited for a container"
        elif not self.tunnelling:
            self.error = self.error or "the client left before the answer was complete"
        upstream, self.upstream = self.upstream, None
        if not self.tunnelling:
            self.status = CLIENT_LEFT
        if upstream is None:
            self._end()
        elif self.tunnelling:
            upstream.detach()
            upstream.close()
            self._end()
        elif upstream.settle(self):
            # The slot is kept until the container is done with it: it may well be still at work.
            self.client.gateway.settling[self] = upstream
            self.ended = True
            self._record()
            self.client.finished(self)
        else:
            self._end()

    def settled(self, upstream: Upstream) -> None:
        """The container closed its end of a connection whose client had left."""
        self.client.gateway.settling.pop(self, None)
        self._release()

    def settle_expired(self, upstream: Upstream) -> None:
        """The container is still at work for a client that left, and its time is up."""
        if self.slot is not None and self.endpoint is not None:
            _guarded(self.endpoint.on_timeout, self.slot.backend)
        upstream.settling = None
        upstream.abort()
        self.settled(upstream)

    def refuse(self, refusal: Refusal) -> None:
        """Answer in the container's place. Nothing has been sent yet."""
        head, client = self.head, self.client
        self.status = refusal.status
        if self.error is None:
            self.error = refusal.text
        head.keep_alive = head.keep_alive and self.received and not client.draining
        self.say(refusal, self._server_timing() if self._debug and self.dispatched else b"")
        self._end()

    def say(self, refusal: Refusal, extra: bytes = b"") -> None:
        """Send `refusal` to the client, with these header lines besides."""
        head = self.head
        self.client.write(
            render(
                refusal,
                request_id=self.id.decode(),
                accept=head.header(b"accept"),
                head_only=head.method == b"HEAD",
                keep_alive=head.keep_alive,
                modern=head.modern,
                extra=extra,
            )
        )

    def stop(self, refusal: Refusal) -> None:
        """Stop whatever goes on: `refusal` if nothing was sent yet, else all that is left is to cut the connection."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        if self.head_sent:
            self.head.keep_alive = False
            self.client.abort()
            self._end()
        else:
            self.refuse(refusal)

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._release()
        self._record()
        self.client.finished(self)

    def _release(self) -> None:
        slot = self.slot
        if slot is not None and self.endpoint is not None:
            self.slot = None
            self.endpoint.admission.release(slot)

    # -- telling ----------------------------------------------------------------------------------------------------

    @property
    def _debug(self) -> bool:
        return self.endpoint is not None and self.endpoint.debug

    def _waited(self) -> tuple[str, float, float]:
        """cold or warm ("-" when it met no container), the wait without the fork, and the fork, in seconds. Cold: its
        container came after it did."""
        backend = self.backend
        if backend is None:
            return "-", monotonic() - self.arrived, 0.0
        queue = self.dispatched - self.arrived
        if backend.started is None or backend.started < self.arrived:
            return "warm", queue, 0.0
        fork = min(backend.fork_seconds, queue)
        return "cold", queue - fork, fork

    def _server_timing(self) -> bytes:
        start, queue, fork = self._waited()
        app = (self.first or monotonic()) - self.dispatched
        return b"Server-Timing: start;desc=%b, queue;dur=%.1f, fork;dur=%.1f, app;dur=%.1f\r\n" % (
            start.encode(),
            queue * 1e3,
            fork * 1e3,
            app * 1e3,
        )

    def _record(self) -> None:
        endpoint, head = self.endpoint, self.head
        if endpoint is None:
            return
        now = monotonic()
        start, queue, fork = self._waited()
        first = self.first - self.dispatched if self.first else 0.0
        record = RequestRecord(
            endpoint.function,
            endpoint.app,
            head.method.decode("latin-1"),
            head.target.partition(b"?")[0].decode("latin-1"),
            self.status,
            start,
            queue,
            fork,
            first,
            now - self.arrived,
            self.id.decode(),
            "" if self.backend is None else self.backend.id,
            self.client.address(head),
            self.error,
        )
        try:
            endpoint.log(record)
        except Exception:
            log.exception("the log of %s failed", endpoint.function)


def _guarded(callback: Callable[[T], None], argument: T) -> None:
    """A listener's failure is its own: the request goes on."""
    try:
        callback(argument)
    except Exception:
        log.exception("a listener of the gateway failed")
