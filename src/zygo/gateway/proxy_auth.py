"""Which callers may pass: proxy tokens, checked before anything is started for a request.

Three ways to show one: `Modal-Key` and `Modal-Secret`, `Zygo-Key` and `Zygo-Secret`, or `Authorization: Bearer <id>.<secret>`.
What a token consists of is not passed on to the application.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from zygo.gateway.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.gateway.checks import Head

_PAIRS = ((b"modal-key", b"modal-secret"), (b"zygo-key", b"zygo-secret"))
_NAMES = tuple(name + b":" for pair in _PAIRS for name in pair)
_AUTHORIZATION = b"authorization:"
_NOBODY = b"\0" * 32


def digest(secret: bytes) -> bytes:
    """What is kept of a token's secret. It has 160 random bits, so one round of a plain hash is enough."""
    return hashlib.sha256(secret).digest()


class Tokens:
    """The table: digests by token id. Replaced whole when a token is made or deleted."""

    def __init__(self) -> None:
        self.digests: Mapping[bytes, bytes] = {}

    def check(self, head: Head) -> Refusal | None:
        """None for a request that may pass, whose head has lost the token then; else the answer in its place."""
        shown = [(head.header(key), head.header(secret)) for key, secret in _PAIRS]
        bearer = _bearer(head)
        if bearer is not None:
            shown.append(bearer)
        shown = [(identifier, secret) for identifier, secret in shown if identifier or secret]
        if not shown:
            return Refusal(401, "zygo: missing credentials for proxy authorization")
        if not any(self._valid(identifier, secret) for identifier, secret in shown):
            return Refusal(401, "zygo: invalid credentials for proxy authorization")
        head.lines = [line for line in head.lines if not _holds_token(line, bearer is not None)]
        return None

    def _valid(self, identifier: bytes, secret: bytes) -> bool:
        # The same work for an id that nobody has: the time taken says nothing of which ids there are.
        return hmac.compare_digest(self.digests.get(identifier, _NOBODY), digest(secret))


def _bearer(head: Head) -> tuple[bytes, bytes] | None:
    """The token in an Authorization header; None for another user of that header."""
    scheme, _, value = head.header(b"authorization").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    identifier, dot, secret = value.strip().partition(b".")
    return (identifier, secret) if dot and identifier.startswith(b"wk-") else None


def _holds_token(line: bytes, bearer: bool) -> bool:
    low = line.lower()
    return low.startswith(_NAMES) or (bearer and low.startswith(_AUTHORIZATION) and b"bearer" in low)
