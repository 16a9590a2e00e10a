"""Proxy tokens: made, listed and deleted; the gateway's table of them follows at once.

An id is public, a secret is shown once, when it is made; what is kept of it is a hash.
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zygo.errors import NotFoundError
from zygo.gateway.proxy_auth import digest
from zygo.model import ProxyToken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zygo.gateway.proxy_auth import Tokens
    from zygo.store.store import Store

_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH, _SECRET_LENGTH = 22, 32


class ProxyTokens:
    """The tokens of this server. `table` is what the gateway looks at."""

    def __init__(self, store: Store, table: Tokens) -> None:
        self._store = store
        self._table = table
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Tell the gateway what the store holds."""
        show_tokens(await self._store.proxy_tokens(), self._table)

    async def create(self) -> dict[str, Any]:
        """A new token: its `id` and `secret`, which nobody can ask for again."""
        identifier, secret = f"wk-{_random(_ID_LENGTH)}", f"ws-{_random(_SECRET_LENGTH)}"
        async with self._lock:
            await self._store.add_proxy_token(ProxyToken(identifier, digest(secret.encode()).hex(), time.time()))
            await self.load()
        return {"id": identifier, "secret": secret}

    async def list(self) -> list[dict[str, Any]]:
        """Every token's `id` and `created_at`, the oldest first."""
        return [{"id": token.id, "created_at": token.created_at} for token in await self._store.proxy_tokens()]

    async def delete(self, identifier: str) -> None:
        """Refuse that token from now on. Raises NotFoundError."""
        async with self._lock:
            if not await self._store.delete_proxy_token(identifier):
                raise NotFoundError(
                    f"There is no proxy token {identifier[:40]!r}. `zygo workspace proxy-tokens list` shows them."
                )
            await self.load()


def show_tokens(found: Iterable[ProxyToken], table: Tokens) -> None:
    """Let the gateway know `found`, and no others."""
    table.digests = MappingProxyType({token.id.encode(): bytes.fromhex(token.digest) for token in found})


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
