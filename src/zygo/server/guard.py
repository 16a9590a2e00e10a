"""What stands before the control API on TCP: no request gets past it without a token.

    no token, a wrong or an expired one    401 without a word more; after many from one address 429 for a while
    a good one                             the request goes on, with its caller in the scope

A good token is accepted whatever the address has done before: behind one address may be many people, and a secret of 256
bits needs no protection from guessing. The limit keeps noise away from the loop and the log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from typing import TYPE_CHECKING

from zygo.errors import AuthError
from zygo.server.access import LOCAL, Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from zygo.server.tokens import Tokens

log = logging.getLogger("zygo.guard")

CALLER = "zygo.caller"
"""The key in an ASGI scope under which the caller is found."""

FAILURES = 10
WINDOW = 60.0
"""So many failures within so many seconds, and the address hears 429 until the window is over."""

ADDRESSES = 10_000
"""Addresses that are remembered; beyond that the one that failed first is forgotten."""


def caller_of(scope: Scope) -> Caller:
    """Whose request this is."""
    found = scope.get(CALLER)
    return found if isinstance(found, Caller) else LOCAL


class Failures:
    """Counts failures by address; an IPv6 one by its /64, which is what one customer gets."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}

    def add(self, address: str) -> float:
        """Note a failure. Seconds that the address has to wait; 0 while it is below the limit."""
        key, now = _key(address), self._now()
        began, count = self._seen.pop(key, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        self._seen[key] = (began, count + 1)
        if len(self._seen) > ADDRESSES:
            del self._seen[next(iter(self._seen))]
        return began + WINDOW - now if count + 1 > FAILURES else 0.0


def _key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Guard:
    """`app` behind tokens. Requests of a token that is deleted or rotated meanwhile are cut."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens
        self._failures = Failures()
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        tokens.on_change.append(self._cut)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        address = (scope.get("client") or ("unknown", 0))[0]
        try:
            caller = self._tokens.recognise(_bearer(scope), address)
        except AuthError as error:
            await self._refuse(send, address, str(error))
            return
        running = self._running.setdefault(caller.token_id, set())
        task = asyncio.ensure_future(self._app({**scope, CALLER: caller}, receive, send))
        running.add(task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            running.discard(task)
            if not running:
                self._running.pop(caller.token_id, None)
        if not task.cancelled():
            task.result()

    def _cut(self, identifier: str) -> None:
        for task in list(self._running.get(identifier, ())):
            task.cancel()

    async def _refuse(self, send: Send, address: str, reason: str) -> None:
        wait = self._failures.add(address)
        # Closed: what else this connection holds, a body for one, is not read.
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        if wait:
            headers.append((b"retry-after", b"%d" % max(1, round(wait))))
        else:
            log.warning("a request from %s was refused: %s", address, reason)
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": 429 if wait else 401, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _bearer(scope: Scope) -> str:
    found: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not found:
        raise AuthError("it had no token")
    kind, _, token = found[0].decode("latin-1").partition(" ")
    if len(found) > 1 or kind.lower() != "bearer":
        raise AuthError("it had no bearer token")
    return token.strip()
