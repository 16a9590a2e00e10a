"""One connection to a container: sends a request, reads its answer, and waits for the next.

The answer's head is parsed and rewritten, its body passes through: one of known length without being parsed, a chunked
one re-framed. Only the gateway ends an idle connection, so that a container closing one never races with its next use.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from typing import TYPE_CHECKING, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from zygo.gateway.answers import CHUNKED, MAX_ANSWER_HEAD, UNTIL_CLOSE, Answer, BadAnswer, read_answer, trailer_lines

if TYPE_CHECKING:
    from zygo.gateway.checks import Header
    from zygo.gateway.container import Backend
    from zygo.gateway.exchange import Exchange

log = logging.getLogger(__name__)

JOIN_LIMIT = 16 * 1024
"""Bytes up to which the pieces of one write are joined; beyond it a copy costs more than a vectored write."""

PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [^\x00-\x08\n-\x1f\x7f]*+\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]++:[^\x00-\x08\n-\x1f\x7f]*+\r\n)++\r\n"
)
"""A complete head in strict spelling."""

SPECIAL_LINES = re.compile(
    rb"\n(content-length:[\t ]*[0-9]{1,18}[\t ]*\r|content-length:|connection:|keep-alive:|proxy-connection:|te:"
    rb"|trailer:|transfer-encoding:|upgrade:|http2-settings:|x-request-id:)"
)
"""In a head in lower case: its length, and the headers that belong to one hop or to the gateway."""

WITHOUT_BODY = (204, 304)

_connecting: set[asyncio.Task[object]] = set()


class BackendBusy(OSError):
    """The container's backlog is full: it lives, and takes nothing more."""


def connect(exchange: Exchange, backend: Backend) -> Upstream:
    """Open a connection to `backend` that begins with `exchange`.

    The kernel decides at once whether a unix socket takes a connection: raises BackendBusy, or OSError when nobody
    listens. The transport follows a moment later.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.connect(backend.path)
    except OSError as error:
        sock.close()
        if error.errno == errno.EAGAIN:
            raise BackendBusy(error.errno, "the container's backlog is full") from None
        raise
    upstream = Upstream(backend, exchange)
    task = asyncio.get_running_loop().create_task(_open(upstream, sock), name=f"connect {backend.id}")
    _connecting.add(task)
    task.add_done_callback(_connecting.discard)
    return upstream


async def _open(upstream: Upstream, sock: socket.socket) -> None:
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: upstream, sock=sock)
    except OSError as error:
        sock.close()
        upstream.connection_lost(error)


class Upstream(asyncio.Protocol):
    """The gateway's end of a connection to a container, in one of these states: connecting or busy (has an `exchange`),
    tunnel, idle (in its backend's `idle`), settling (its client left, the container may still be at work), closed."""

    def __init__(self, backend: Backend, exchange: Exchange) -> None:
        self.backend = backend
        self.exchange: Exchange | None = exchange
        self.transport: asyncio.Transport | None = None
        self.uses = 0
        self.tunnel = False
        self.settling: Exchange | None = None
        self.closed = False
        self.read_paused = False
        self.write_paused = False
        self._parser: HttpResponseParser | None = None
        self._headers: list[Header] = []
        self._reason = b""
        self._out: list[bytes] = []
        self._answer: Answer | None = None
        self._left = 0
        self._head_bytes = 0
        self._raw = False
        self._rechunk = False
        self._complete = False
        self._overrun = False
        self._reusable = False
        self._kept: list[bytes] = []

    # -- the exchange's side ----------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """Send `exchange`'s request; only on an idle connection."""
        self.exchange = exchange
        self.uses += 1
        cast("asyncio.Transport", self.transport).write(exchange.opening())
        if exchange.head.length:
            # A long body made the client wait while the request did; what was held of it has just been sent.
            exchange.client.body_taken()

    def write(self, data: bytes) -> None:
        """Send more of the request, or of the tunnel."""
        if not self.closed and self.transport is not None:
            self.transport.write(data)

    def pause_reading(self) -> None:
        """The client is slow."""
        if not self.read_paused and self.transport is not None and not self.closed:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The client has room again."""
        if self.read_paused:
            self.read_paused = False
            if self.transport is not None and not self.closed:
                self.transport.resume_reading()

    def take_up(self, exchange: Exchange) -> None:
        """A client is back, for `exchange`: what was kept is for it."""
        kept = b"".join(self._kept)
        self._kept.clear()
        if kept:
            self.data_received(kept)
        if self.exchange is exchange and not exchange.client.write_paused:
            self.resume_reading()

    def detach(self) -> None:
        """The exchange is over on this connection: nothing is told to it any more."""
        self.exchange = None
        self.tunnel = self._raw = False
        self._kept.clear()
        if self._parser is not None:
            self._forget_parser()
        if self.read_paused:
            self.resume_reading()

    def finish(self, *, keep: bool) -> None:
        """The answer is complete. With `keep` the connection is idle from now on, if it may serve another request."""
        self.detach()
        if keep and not (self.closed or self.write_paused) and self.backend.accepting:
            self.backend.idle.append(self)
        else:
            self.close()

    def settle(self, exchange: Exchange) -> bool:
        """The client left. Tell the container so by half-closing, and wait for its end of the connection: it closes
        when it is done with the request. False when that cannot be told; then the connection is gone at once."""
        transport = self.transport
        if self.closed or transport is None or self.write_paused or not exchange.received:
            self.abort()
            return False
        self.detach()
        self.settling = exchange
        transport.write_eof()
        return True

    def close(self) -> None:
        """End the connection once what was written is sent. May be called twice."""
        if self.transport is not None and not self.closed:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now. A connection that is still being made ends as soon as it exists."""
        self.detach()
        if self.transport is not None and not self.closed:
            self.transport.abort()

    # -- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.exchange is None:
            self.transport.abort()
        else:
            self.begin(self.exchange)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: a container that talks out of turn is not to be trusted with this connection again.
            if self.settling is None:
                self.abort()
            return
        if self._raw:
            self._pass_on(exchange, data)
            return
        if self.tunnel:
            exchange.client.tunnelled(data)
            return
        if exchange.absent:
            self._kept.append(data)
            self.pause_reading()
            return
        parser = self._parser
        if parser is None:
            plain = PLAIN_HEAD.match(data)
            if plain is not None and self._plain(exchange, data, int(plain[1]), plain.end()):
                return
            parser = self._parser = HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._begin_tunnel(exchange, data[upgrade.args[0] :])
            return
        except HttpParserError as error:
            if not self._complete:
                self._spoilt(exchange, error)
                return
            self._overrun = True
        out = self._out
        if out:
            exchange.client.write_all(out)
            out.clear()
        if self._complete:
            exchange.answered(reusable=self._reusable and not self._overrun)
        elif self._answer is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_ANSWER_HEAD:
                exchange.bad_answer("the head of the container's answer is too long")
        elif self._answer.length > 0:
            # From here on the parser could only copy.
            self._raw = True

    def _plain(self, exchange: Exchange, data: bytes, status: int, end: int) -> bool:
        """Whether `data` begins with the commonest answer by far: its whole head is here, with a length and nothing in
        it that belongs to one hop. Its headers go on as they are: a quarter of the work of taking them apart and
        putting them together again."""
        special = SPECIAL_LINES.findall(data[:end].lower())
        if len(special) != 1 or status in WITHOUT_BODY or exchange.head.method == b"HEAD":
            return False
        said = special[0][15:].strip()
        if not said.isdigit():
            return False
        length, size = int(said), len(data) - end
        tail = exchange.answer_tail(status, length_known=True)
        body = data[end : end + length]
        if size <= JOIN_LIMIT:
            exchange.client.write(b"%b%b%b" % (data[: end - 2], tail, body))
        else:
            exchange.client.write_all([data[: end - 2], tail, body])
        if size >= length:
            exchange.answered(reusable=size == length)
        else:
            self._left = length - size
            self._raw = self._reusable = True
        return True

    def _pass_on(self, exchange: Exchange, data: bytes) -> None:
        size = len(data)
        if size < self._left:
            self._left -= size
            exchange.client.write(data)
            return
        overrun = size > self._left
        exchange.client.write(data[: self._left] if overrun else data)
        self._left = 0
        exchange.answered(reusable=self._reusable and not overrun)

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        exchange, settling = self.exchange, self.settling
        if exchange is None:
            if settling is not None:
                self.settling = None
                settling.settled(self)
            elif self in self.backend.idle:
                self.backend.idle.remove(self)
            return
        if self.tunnel:
            exchange.tunnel_ended()
        elif self._answer is not None and self._answer.length == UNTIL_CLOSE and exc is None:
            if self._rechunk:
                exchange.client.write(b"0\r\n\r\n")
            exchange.answered(reusable=False)
        else:
            exchange.lost(fresh=self.uses <= 1)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.client.hold_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.client.go_on_reading()

    # -- httptools' side --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._overrun = True

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange, parser = self.exchange, self._parser
        if self._complete or exchange is None or parser is None:
            return
        head_only = exchange.head.method == b"HEAD"
        headers, self._headers = self._headers, []
        reason, self._reason = self._reason, b""
        status = parser.get_status_code()
        answer = read_answer(status, reason, parser.get_http_version(), headers, head_only=head_only)
        if status < 200 and status != 101:
            exchange.interim(answer)
            return
        self._answer = answer
        self._reusable = answer.reusable
        self._left = answer.length
        self._rechunk = answer.length < 0 and exchange.head.modern
        self._out.append(exchange.answer_head(answer, rechunk=self._rechunk))
        if answer.length == 0 and status != 101:
            self._complete = True

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if self._complete or answer is None:
            self._overrun = True
        elif self._rechunk:
            self._out += (b"%x\r\n" % len(body), body, b"\r\n")
        else:
            if answer.length > 0:
                self._left -= len(body)
            self._out.append(body)

    def on_message_complete(self) -> None:
        answer, exchange = self._answer, self.exchange
        if self._complete or answer is None or exchange is None or answer.status == 101:
            return
        if self._rechunk:
            trailers = b""
            if self._headers:
                trailers, self._headers = trailer_lines(self._headers) if exchange.head.trailers else b"", []
            self._out.append(b"0\r\n" + trailers + b"\r\n")
        elif answer.length == CHUNKED:
            self._headers = []
        self._complete = True

    # -- inside -----------------------------------------------------------------------------------------------------

    def _forget_parser(self) -> None:
        self._parser = None
        self._answer = None
        self._complete = self._overrun = self._rechunk = False
        self._head_bytes = 0
        self._out.clear()

    def _begin_tunnel(self, exchange: Exchange, rest: bytes) -> None:
        if self._answer is None or self._answer.status != 101:
            exchange.bad_answer("the container switched protocols without being asked to")
            return
        self.tunnel = True
        exchange.client.write_all(self._out)
        self._forget_parser()
        if rest:
            exchange.client.write(rest)
        exchange.tunnel_begun()

    def _spoilt(self, exchange: Exchange, error: HttpParserError) -> None:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else error
        if not isinstance(cause, (BadAnswer, HttpParserError)):
            log.error("the gateway failed on a container's answer", exc_info=cause)
        exchange.bad_answer(str(cause) or "the container's answer is not HTTP")
