"""One connection of a client: parses its requests, keeps them in order, and bounds everything that it may make us hold.

The head of each request becomes an Exchange; one of them is `current`, those that were pipelined behind it are `queue`d
and reading stops until it is their turn. A body goes to the exchange it belongs to, and on from there as fast as the
container takes it. There are no timers here: `deadline` is the earliest moment at which the gateway's sweep must look.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from zygo.gateway.checks import MAX_HEAD, BadHead, Head, Header, hostname, read_head
from zygo.gateway.exchange import Exchange
from zygo.gateway.forwarded import peer_address
from zygo.gateway.refusals import Refusal
from zygo.gateway.upstream import JOIN_LIMIT

if TYPE_CHECKING:
    from zygo.gateway.proxy import Gateway
    from zygo.gateway.routes import Endpoint, Routes
    from zygo.gateway.upstream import Upstream

log = logging.getLogger(__name__)

BUFFER = 64 * 1024
"""Bytes of a body, or of a tunnel's beginning, that are held while nobody takes them; then reading stops."""

NEVER = float("inf")

CALLS_PORT = -1
"""In a port's place, for connections that came in on a socket for calls of functions."""


class ClientConnection(asyncio.Protocol):
    """The gateway's end of a client's connection."""

    transport: asyncio.Transport

    def __init__(self, gateway: Gateway, port: int, *, secure: bool = False) -> None:
        self.gateway = gateway
        self.port = port
        self.secure = secure
        """Whether it is TLS, which ends as a whole: there is no half-closed connection."""
        self.peer = "unknown"
        self.deadline = 0.0
        """When the sweep must look again, in `time.monotonic()`."""
        self.draining = False
        self.current: Exchange | None = None
        self.queue: deque[Exchange] = deque()
        self.tunnel: Upstream | None = None
        self._tunnel_seen = 0.0
        self._silence = self._tunnel_until = NEVER
        self.gone = False
        self.write_paused = False
        self._trusted = False
        self._half_closed = 0.0
        self._closing = False
        self._deaf = False
        self._receiving: Exchange | None = None
        self._body_seen = 0.0
        self._raw_left = 0
        self._parser = HttpRequestParser(self)
        self._headers: list[Header] = []
        self._target = b""
        self._in_head = False
        self._head_started = 0.0
        self._fed = 0
        self._muted = False
        self._upgrading = False
        self._early: list[bytes] | None = None
        self._held = False
        self._paused = False
        self._routes: Routes | None = None
        self._host = b"\0"
        self._endpoint: Endpoint | None = None
        self._forwarded = b""
        self._exchange = Exchange if port == CALLS_PORT else gateway.exchange

    # -- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_address(transport.get_extra_info("peername"))
        self._trusted = self.gateway.proxies.trusts(self.peer)
        self.deadline = monotonic() + self.gateway.limits.head
        self.gateway.joined(self)
        if self.gateway.closed:  # its handshake took until now
            self.abort()
        elif self.gateway.holding:
            self.write_paused = (
                True  # requests are read and not started; pausing the reading here would not last on uvloop
            )

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self._tunnel_seen = monotonic()
            self.tunnel.write(data)
            return
        if self._deaf:
            return
        if self._early is not None:
            self._keep_early(data)
            return
        if self._raw_left:
            data = self._take_raw(data)
            if not data:
                return
        was_in_head = self._in_head
        self._fed = self._fed + len(data) if was_in_head else len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except HttpParserError as error:
            if not self._deaf:
                self._unparsable(error)
        current = self.current
        if current is None:
            self._next()
        elif current.pending or current.received:
            current.body_arrived()
        if self._in_head:
            self._head_goes_on(was_in_head)
        elif self._receiving is not None:
            self._body_goes_on(self._receiving)
        if self.queue:
            self._set_reading()

    def eof_received(self) -> bool:
        # A client may close only its sending half and still read; but FIN is also all there is to see of one that left.
        # It gets a moment for a quick answer.
        # One that calls a function never does the former.
        current, receiving = self.current, self._receiving
        if self.tunnel or not current or receiving or self.secure or self.port == CALLS_PORT:
            return False
        self._half_closed = monotonic() + self.gateway.limits.half_closed
        self.deadline = min(self.deadline, self._half_closed)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.gateway.left(self)
        self.queue.clear()
        self._receiving = None
        current = self.current
        if current is not None:
            current.client_left()
        self.tunnel = None

    def pause_writing(self) -> None:
        self.write_paused = True
        upstream = self.tunnel or (self.current.upstream if self.current is not None else None)
        if upstream is not None:
            upstream.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        upstream = self.tunnel or (self.current.upstream if self.current is not None else None)
        if upstream is not None:
            upstream.resume_reading()
        elif self.current is None and self.queue:
            self._next()

    @property
    def ending(self) -> bool:
        """Whether nothing but the current answer goes out here."""
        return self.draining or self._half_closed > 0

    # -- the exchange's side ----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes of the current answer, or of the tunnel."""
        if not self.gone:
            self.transport.write(data)

    def write_all(self, pieces: list[bytes]) -> None:
        """Send several pieces at once."""
        if self.gone:
            return
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        elif sum(map(len, pieces)) <= JOIN_LIMIT:
            self.transport.write(b"".join(pieces))
        else:
            self.transport.writelines(pieces)

    def abort(self) -> None:
        """Cut the connection."""
        self._deaf = True
        if not self.gone:
            self.transport.abort()

    def hold_reading(self) -> None:
        """The container takes no more for now."""
        self._held = True
        self._set_reading()

    def go_on_reading(self) -> None:
        """The container has room again."""
        self._held = False
        self._set_reading()

    def body_taken(self) -> None:
        """The container has been sent what was held of the body."""
        self._set_reading()

    def tunnelled(self, data: bytes) -> None:
        """Send bytes of the tunnel."""
        self._tunnel_seen = monotonic()
        self.write(data)

    def begin_tunnel(self, upstream: Upstream, *, silence: float = NEVER, until: float = NEVER) -> None:
        """From now on, bytes go to and fro, until none has for `silence` seconds, or `until` then."""
        self.tunnel = upstream
        self._silence, self._tunnel_until = silence, until
        self._tunnel_seen = monotonic()
        self.deadline = min(self._tunnel_seen + silence, until)
        early, self._early = self._early, None
        if early:
            upstream.write(b"".join(early))
        if self.write_paused:
            upstream.pause_reading()
        self._set_reading()

    def finished(self, exchange: Exchange) -> None:
        """`exchange` is over: the next one, or the end."""
        self.current = None
        self._held = False
        if self.gone:
            return
        if exchange.tunnelling:
            self.tunnel = None
            self._close()
        elif not exchange.received:
            self._linger()
        elif not exchange.head.keep_alive or self.draining:
            self._close() if not self.queue and self._early is None and self._receiving is None else self._linger()
        else:
            if self._early is not None:
                self._resume_after_upgrade()
            self._next()

    def endpoint(self, host: bytes) -> Endpoint | None:
        """Where a request for `host` goes. Most connections only ever name one host."""
        routes = self.gateway.functions if self.port == CALLS_PORT else self.gateway.routes
        if routes is not self._routes or host != self._host:
            self._endpoint = None if self.redirect(host) else routes.find(hostname(host), self.port)
            self._routes = routes
            self._know_host(host)
        return self._endpoint

    def redirect(self, host: bytes) -> bytes:
        """Where a request for `host` goes instead, without its path: the same host by https; b"" if it is served here."""
        gateway = self.gateway
        if self.secure or self.port != gateway.redirected_port or self._trusted or not host:
            return b""
        port = b"" if gateway.secure_port == 443 else b":%d" % gateway.secure_port
        return b"https://%b%b" % (hostname(host).encode("latin-1"), port)

    def forwarded_lines(self, head: Head) -> bytes:
        """Host and what the app may believe about the client, as header lines."""
        if self._trusted and head.forwarded is not None:
            origin = self.gateway.proxies.origin(self.peer, head.host, head.forwarded)
            return _forwarded_lines(head.host, origin.client, origin.proto, origin.host)
        if head.host != self._host:
            self._know_host(head.host)
        return self._forwarded

    def address(self, head: Head) -> str:
        """The client's address, for the record."""
        if self._trusted and head.forwarded is not None:
            return self.gateway.proxies.origin(self.peer, head.host, head.forwarded).client.decode("latin-1")
        return self.peer

    def _know_host(self, host: bytes) -> None:
        self._host = host
        proto = b"https" if self.secure else b"http"
        self._forwarded = _forwarded_lines(host or b"localhost:%d" % self.port, self.peer.encode(), proto, host)

    # -- the sweep's and the gateway's side -------------------------------------------------------------------------

    def overdue(self, now: float) -> None:
        """`deadline` has passed: find out whose it was."""
        if self._closing or (self._deaf and self.current is None):
            self.abort()
            return
        current, receiving = self.current, self._receiving
        limits = self.gateway.limits
        if self.tunnel is not None and current is not None:
            until = min(self._tunnel_seen + self._silence, self._tunnel_until)
            if now < until:
                self.deadline = until
            else:
                current.tunnel_expired()
            return
        if self._half_closed and now >= self._half_closed:
            self.abort()
        elif current is not None:
            idle_until = self._body_seen + limits.body_idle if receiving is current and not self._paused else NEVER
            if now >= current.deadline:
                current.expired(now)
            elif now >= idle_until:
                self._receiving = None
                current.error = "the client stopped sending the request body"
                current.stop(Refusal(408, f"zygo: no more of the request body came for {limits.body_idle:g} s"))
            else:
                self.deadline = min(current.deadline, idle_until, self._half_closed or NEVER)
        elif self._in_head:
            self._reject(BadHead(408, f"the head of the request was not complete within {limits.head:g} s"))
            self._next()
        else:
            self._close()

    def drain(self) -> None:
        """Finish what is being served, then close."""
        self.draining = True
        if self.current is None and not self._closing and not self._deaf:
            self._close()

    # -- httptools' side --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self._muted or self._deaf:
            self._muted = False
            return
        parser = self._parser
        try:
            if self._fed > MAX_HEAD and len(target) + sum(len(n) + len(v) + 4 for n, v in headers) > MAX_HEAD:
                raise BadHead(431, f"the head of the request is larger than {MAX_HEAD} bytes")
            head = read_head(parser.get_method(), target, parser.get_http_version(), headers)
        except BadHead as bad:
            self._reject(bad)
            return
        self._upgrading = parser.should_upgrade()
        exchange = self._receiving = self._exchange(self, head, monotonic())
        self.queue.append(exchange)

    def on_body(self, body: bytes) -> None:
        exchange = self._receiving
        if exchange is not None:
            exchange.pending.append(body)
            exchange.pending_size += len(body)
            exchange.body_size += len(body)

    def on_message_complete(self) -> None:
        if self._headers:
            # Trailers, which the app could not see.
            self._headers.clear()
        exchange = self._receiving
        # For an upgrade httptools says so before a body that it does not read: see _upgrade.
        if exchange is not None and not self._upgrading:
            exchange.received = True
            self._receiving = None
            if not exchange.head.keep_alive:
                self._deaf = True

    # -- parsing ----------------------------------------------------------------------------------------------------

    def _head_goes_on(self, before: bool) -> None:
        """A head is incomplete: bound its size and, from its first byte, its time."""
        if before and self._fed > MAX_HEAD:
            self._reject(BadHead(431, f"the head of the request is larger than {MAX_HEAD} bytes"))
            self._next()
        elif not before:
            self._head_started = monotonic()
            if self.current is None:
                self.deadline = self._head_started + self.gateway.limits.head

    def _body_goes_on(self, exchange: Exchange) -> None:
        """A body is incomplete: bound its size, its pauses and what is held of it."""
        self._body_seen = monotonic()
        self.deadline = min(self.deadline, self._body_seen + self.gateway.limits.body_idle)
        head = exchange.head
        if head.length < 0:
            endpoint = exchange.endpoint
            limit = self.gateway.max_body if endpoint is None or endpoint.max_body is None else endpoint.max_body
            if exchange.body_size > limit and not exchange.ended:
                self._receiving = None
                exchange.too_large(limit)
                return
        elif exchange is self.current and not self._raw_left:
            # From here on the parser could only copy.
            self._raw_left = head.length - exchange.body_size
        if exchange.pending_size > BUFFER:
            self._set_reading()

    def _take_raw(self, data: bytes) -> bytes:
        """A body of known length, without the parser. Returns what follows the body."""
        exchange = self._receiving
        if exchange is None:
            return b""
        left = self._raw_left
        size = len(data)
        rest = b""
        if size > left:
            data, rest = data[:left], data[left:]
        self._raw_left = max(0, left - size)
        exchange.pending.append(data)
        exchange.pending_size += len(data)
        exchange.body_size += len(data)
        if self._raw_left:
            self._body_seen = monotonic()
        else:
            self._parser = HttpRequestParser(self)
            exchange.received = True
            self._receiving = None
            self._deaf = not exchange.head.keep_alive
        exchange.body_arrived()
        if exchange.pending_size > BUFFER:
            self._set_reading()
        return b"" if self._deaf else rest

    def _upgrade(self, rest: bytes) -> None:
        """httptools stopped at a request that asks for another protocol."""
        exchange, self._receiving = self._receiving, None
        self._upgrading = False
        if exchange is None or self._deaf:
            return
        if exchange.head.upgrade:
            # What comes now belongs to the tunnel, or, if there will be none, to the next request.
            exchange.received = True
            self._early = [rest] if rest else []
            return
        # It is not one that we make: read on, from after its head, as if it had not asked.
        self._receiving = exchange
        self._parser = HttpRequestParser(self)
        self._muted = True
        length = exchange.head.length
        framing = b"Transfer-Encoding: chunked" if length < 0 else b"Content-Length: %d" % length
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        if rest and not self._deaf:
            try:
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                self._upgrade(rest[upgrade.args[0] :])
            except HttpParserError as error:
                if not self._deaf:
                    self._unparsable(error)

    def _keep_early(self, data: bytes) -> None:
        assert self._early is not None
        self._early.append(data)
        self._set_reading()

    def _resume_after_upgrade(self) -> None:
        early, self._early = self._early, None
        self._parser = HttpRequestParser(self)
        if early:
            self.gateway.loop.call_soon(self.data_received, b"".join(early))

    def _unparsable(self, error: HttpParserError) -> None:
        cause = error.__context__
        if isinstance(error, HttpParserCallbackError) and not isinstance(cause, HttpParserError):
            log.error("the gateway failed on a request", exc_info=cause)
            self._reject(BadHead(500, "the gateway failed on this request"))
        elif isinstance(error, HttpParserInvalidMethodError):
            self._reject(BadHead(501, "the request's method is not one of HTTP's, or this is not HTTP"))
        else:
            self._reject(BadHead(400, f"the request is not valid HTTP ({error})"))

    def _reject(self, bad: BadHead) -> None:
        """Refuse what cannot be read, in its turn; the connection hears nothing more."""
        self._deaf = True
        self._in_head = False
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            # Its body is broken: it is not complete and never will be.
            if exchange is self.current:
                exchange.error = str(bad)
                exchange.stop(Refusal(bad.status, f"zygo: {bad}"))
                return
            exchange.head.keep_alive = False
            exchange.refusal = Refusal(bad.status, f"zygo: {bad}")
            return
        head = Head(b"GET", b"/", (), True)
        head.keep_alive = False
        refused = Exchange(self, head, monotonic())
        refused.refusal = Refusal(bad.status, f"zygo: {bad}")
        self.queue.append(refused)

    # -- order ------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Start the next request, unless there is none or the client does not read its answers."""
        while self.current is None and self.queue and not self.write_paused and not self.gone:
            exchange = self.current = self.queue.popleft()
            exchange.start()
        if self.current is None and not self.queue and not self._closing:
            limits = self.gateway.limits
            if self._half_closed:
                self._close()
            elif self._in_head:
                self.deadline = self._head_started + limits.head
            else:
                self.deadline = monotonic() + limits.keep_alive
        if self._paused or self.queue:
            self._set_reading()

    def _set_reading(self) -> None:
        """Read from the client, or not: not while requests are queued, or too much of a body or tunnel is held."""
        receiving = self._receiving
        paused = (
            self._held
            or bool(self.queue)
            or (self._early is not None and sum(map(len, self._early)) > BUFFER)
            or (receiving is not None and receiving.pending_size > BUFFER)
        )
        if paused != self._paused and not self.gone:
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self._body_seen = monotonic()
                self.transport.resume_reading()

    def _close(self) -> None:
        self._deaf = self._closing = True
        self.deadline = monotonic() + self.gateway.limits.flush
        self.transport.close()

    def _linger(self) -> None:
        """Close after an answer that came before its request was complete: a close with unread bytes is a reset, which
        can destroy the answer on its way. So end our half, and read into the void for a while."""
        self.queue.clear()
        self._receiving = None
        self._deaf = self._closing = True
        self.deadline = monotonic() + self.gateway.limits.linger
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self.secure:
            return  # closing sends TLS's end and then the socket's: the deadline does, unless the client is first
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            self.abort()


def _forwarded_lines(host: bytes, client: bytes, proto: bytes, seen_host: bytes) -> bytes:
    return b"Host: %b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (
        host,
        client,
        proto,
        seen_host or host,
    )
