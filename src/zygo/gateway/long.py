"""Requests longer than a proxy in front lets a connection be idle: answered 303, and fetched where that leads to.

    wait -> 303 and no client -> a client is back -> wait -> 303 and no client -> ... -> the answer

The exchange is the same all the time, with its slot or its place in the line; what changes is the connection that it
answers to. While there is none, an `Absent` stands in: what the container sends is not taken, a refusal is kept. Only
with a `response_wait`; otherwise every request is a plain Exchange.
"""

from __future__ import annotations

import re
import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from zygo.gateway.exchange import Exchange
from zygo.gateway.refusals import Refusal

if TYPE_CHECKING:
    from zygo.gateway.client import ClientConnection

PARAMETER = b"__zygo_call_id"

KEPT_SECONDS = 60.0
"""How long a request goes on without a client. One that follows redirects is back at once, one that polls within seconds;
a client that is gone for ever keeps its place in a container for so long."""

MAX_ABSENT = 1000
"""Requests without a client at once; beyond it the one that has been alone for longest is cancelled. Each may hold 64 KiB of
a body and 256 KiB of an answer."""

NEVER = float("inf")

_ID = re.compile(rb"[?&]" + PARAMETER + rb"=([^&]*)")
_NOT_A_PATH = re.compile(rb"/[/\\\x00-\x20]")
"""How a target begins that would lead to another host if it came back as it is."""


class LongExchange(Exchange):
    """One request that may be answered 303 when its wait is over, and answer another connection then."""

    until = 0.0
    due = NEVER
    """When the client is told to come again."""
    key = b""
    """The id under which the answer can be fetched, once the client has been told one."""
    place: tuple[int, bytes] = (0, b"")
    """The port and Host at which it came in; it is fetched there, behind the same tokens."""
    kept_refusal: Refusal | None = None

    @property
    def deadline(self) -> float:
        """When the sweep must look: at the end of the wait too, as long as nothing was answered."""
        return self.until if self.head_sent or self.absent or self.ended else min(self.until, self.due)

    @deadline.setter
    def deadline(self, when: float) -> None:
        self.until = when

    # -- the steps --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        head = self.head
        if PARAMETER in head.target and self.refusal is None and head.method != b"OPTIONS":
            # A browser asks the application by OPTIONS whether its page may follow the redirect: that is no fetch.
            found = _ID.search(head.target)
            if found is not None:
                self._fetch(found[1])
                return
        if self.received:
            self._begin_wait()
        super().start()

    def body_arrived(self) -> None:
        if self.received and self.due == NEVER:
            self._begin_wait()
            self.client.deadline = min(self.client.deadline, self.deadline)
        super().body_arrived()

    def _begin_wait(self) -> None:
        if not self.head.upgrade:
            self.due = monotonic() + self.client.gateway.response_wait

    def expired(self, now: float) -> None:
        if now >= self.until or self.head_sent or self.absent:
            super().expired(now)
        elif self.client.ending:
            # Nobody could come again, or will: what is answered in the time that is left is answered here.
            self.due = NEVER
        else:
            self._part(
                Refusal(303, "zygo: the answer is not there yet; GET the address in Location", location=self._where())
            )

    def client_left(self) -> None:
        if not self.key or self.head_sent or self.ended or self.absent or self.client.gateway.closed:
            super().client_left()
            return
        # It has the id, so it may come again.
        client = self.client
        self._leave()
        client.current = None

    def refuse(self, refusal: Refusal) -> None:
        if not self.absent:
            super().refuse(refusal)
            return
        self.kept_refusal = refusal
        self.error = self.error or refusal.text
        self.until = NEVER
        self._release()

    def _record(self) -> None:
        if self.key:
            self.client.gateway.kept.forget(self)
        super()._record()

    # -- without a client -------------------------------------------------------------------------------------------

    def _where(self) -> bytes:
        client, head = self.client, self.head
        if not self.key:
            self.key = b"rq-" + secrets.token_urlsafe(16).encode()
            self.place = (client.port, head.host.lower())
            self.forwarded = client.forwarded_lines(head)
            client.gateway.kept.by_key[self.key] = self
        place = b"/." + head.target if _NOT_A_PATH.match(head.target) else head.target
        return b"%b%b%b=%b" % (place, b"&" if b"?" in place else b"?", PARAMETER, self.key)

    def _part(self, refusal: Refusal) -> None:
        """Tell the client something else than the answer, and be without one."""
        client, origin = self.client, self.head.header(b"origin")
        # The application's own headers are not known yet, and without these no page of another origin may follow.
        cors = b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n" % origin
        self.say(refusal, cors if origin else b"")
        self._leave()
        client.finished(self)

    def _leave(self) -> None:
        self.client = cast("ClientConnection", Absent(self, self.client))
        self.absent = True
        self.client.gateway.kept.left(self)

    def give_up(self, reason: str) -> None:
        """Nobody comes for the answer: the application hears that its client has left."""
        self.error = self.error or reason
        super().client_left()
        self.client.gateway.watch()

    # -- with another client ----------------------------------------------------------------------------------------

    def _fetch(self, key: bytes) -> None:
        """This is no request of its own: the one that has `key` answers here, if the same tokens let it through."""
        client, head = self.client, self.head
        endpoint = self.endpoint = client.endpoint(head.host)
        if endpoint is None:
            super().start()
            return
        if endpoint.tokens is not None and (refusal := endpoint.tokens.check(head)) is not None:
            self.refuse(refusal)
            return
        kept = client.gateway.kept.by_key.get(key)
        if kept is None or kept.head_sent or kept.place != (client.port, head.host.lower()):
            self.refuse(
                Refusal(
                    404,
                    f"zygo: no request with this id waits for its answer: it was fetched already, nobody came for it within "
                    f"{KEPT_SECONDS:g} s, or the server was restarted. Send the request anew",
                )
            )
        elif head.length or head.upgrade or not self.received:
            self.refuse(Refusal(400, "zygo: an answer is fetched here; GET it, without a body"))
        elif (head.method == b"HEAD") != (kept.head.method == b"HEAD"):
            self.refuse(Refusal(405, "zygo: the answer to a HEAD is fetched with HEAD, any other one with GET"))
        else:
            self.ended = True
            client.current = kept
            kept.back(client, self)

    def back(self, client: ClientConnection, fetch: Exchange) -> None:
        """Answer to `client` from now on, as it asked in `fetch`."""
        if not self.absent:
            self._part(Refusal(409, "zygo: this answer is waited for by another request now, which came later"))
        cast("Absent", self.client).end()
        head, new = self.head, fetch.head
        head.modern, head.keep_alive, head.trailers, head.headers = (
            new.modern,
            new.keep_alive,
            new.trailers,
            new.headers,
        )
        self.client = client
        self.absent = False
        self._begin_wait()
        client.gateway.kept.absent.pop(self, None)
        client.deadline = self.deadline
        if self.kept_refusal is not None:
            self.refuse(self.kept_refusal)
        elif self.upstream is not None:
            self.upstream.take_up(self)


class Absent:
    """Stands in for a client: keeps the deadlines that the sweep keeps for connections, and says nothing to anybody."""

    draining = False

    def __init__(self, exchange: LongExchange, client: ClientConnection) -> None:
        self.gateway = client.gateway
        self._exchange = exchange
        self._address = client.address(exchange.head)
        self._gives_up = monotonic() + self.gateway.kept.seconds
        self._timer: Any = None
        self.deadline = exchange.until

    @property
    def deadline(self) -> float:
        """When something is to be done if nobody has come."""
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = min(when, self._gives_up)
        self.end()
        self._timer = self.gateway.loop.call_later(max(0.0, self._deadline - monotonic()), self._look)

    def _look(self) -> None:
        now, exchange = monotonic(), self._exchange
        if now >= self._gives_up:
            exchange.give_up(f"nobody came for the answer within {self.gateway.kept.seconds:g} s")
            return
        if now >= exchange.until:
            exchange.expired(now)
        if not exchange.ended:
            self.deadline = exchange.until

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def address(self, head: object) -> str:
        """The address of the client that there was last."""
        return self._address

    def finished(self, exchange: object) -> None:
        """The exchange is over."""
        self.end()

    def write(self, data: bytes) -> None:
        """Nobody hears it."""

    def abort(self) -> None:
        """There is nothing to cut."""

    def hold_reading(self) -> None:
        """Its body has come."""

    def go_on_reading(self) -> None:
        """Its body has come."""

    def body_taken(self) -> None:
        """Its body has come."""


class Kept:
    """The requests whose clients were told an id: all of them, and those that are without one."""

    def __init__(self, seconds: float = KEPT_SECONDS) -> None:
        self.seconds = seconds
        self.by_key: dict[bytes, LongExchange] = {}
        self.absent: dict[LongExchange, None] = {}

    def left(self, exchange: LongExchange) -> None:
        """`exchange` is without a client."""
        self.absent[exchange] = None
        if len(self.absent) > MAX_ABSENT:
            next(iter(self.absent)).give_up(f"more than {MAX_ABSENT} requests were without a client")

    def forget(self, exchange: LongExchange) -> None:
        """`exchange` is over."""
        self.by_key.pop(exchange.key, None)
        self.absent.pop(exchange, None)

    def close(self) -> None:
        """The server stops: nobody can come any more."""
        for exchange in list(self.absent):
            exchange.give_up("the server was stopped")
