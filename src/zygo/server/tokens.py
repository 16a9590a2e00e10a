"""Tokens: made, shown once, recognised. `zygo_<id>_<secret>`, where the id finds the token and the secret proves it.

The store has the SHA-256 of the secret. A slow password hash would guard a secret that people choose, against guessing; this
one is 256 random bits, which nobody guesses at any speed, and the check is made for every request.

All tokens are held in memory: this server alone writes them, so what it holds is what is true. When one was last used is
written down once a minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from zygo.errors import AuthError, Error, InvalidError, NotFoundError
from zygo.model import TokenRecord
from zygo.server.access import Caller, held, scopes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zygo.store.access import AccessStore

log = logging.getLogger("zygo.tokens")

PREFIX = "zygo_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NOBODY = hashlib.sha256(b"").hexdigest()

NOTE_SECONDS = 60.0
"""How often the times of last use are written: one write for all tokens, and none while none is used."""

MAX_OVERLAP = 7 * 86400.0
"""Seconds for which an old secret may be accepted beside the new one."""


class Tokens:
    """The tokens of one server. `load` before use, `close` at the end."""

    def __init__(self, store: AccessStore, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._tokens: dict[str, TokenRecord] = {}
        self._used: dict[str, float] = {}
        self._noting: asyncio.Task[None] | None = None
        self.on_change: list[Callable[[str], None]] = []
        """Called with the id of a token whose secret is no longer good."""

    async def load(self) -> None:
        """Read them, and keep their times of use from now on."""
        self._tokens = {token.id: token for token in await self._store.tokens()}
        self._noting = asyncio.create_task(self._note(), name="use of tokens")

    async def close(self) -> None:
        """Write down what was used last."""
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait([self._noting])
        await self._flush()

    def list(self) -> list[TokenRecord]:
        """Every token, by name."""
        found = (
            dataclasses.replace(t, last_used_at=self._used.get(t.id, t.last_used_at)) for t in self._tokens.values()
        )
        return sorted(found, key=lambda token: token.name)

    def recognise(self, text: str, address: str) -> Caller:
        """Whose token `text` is. Raises AuthError for one that is wrong or expired."""
        identifier, _, secret = text.removeprefix(PREFIX).partition("_")
        token = self._tokens.get(identifier)
        digest, now = hash_of(secret), self._now()
        # One comparison in constant time whether or not there is such a token.
        good = hmac.compare_digest(digest, token.hash if token is not None else _NOBODY)
        if token is not None and not good and token.old_hash and token.old_until and now < token.old_until:
            good = hmac.compare_digest(digest, token.old_hash)
        if token is None or not good or not text.startswith(PREFIX):
            raise AuthError("The token is not known here.")
        if token.expires_at is not None and now >= token.expires_at:
            raise AuthError("The token has expired.")
        self._used[token.id] = now
        return Caller(token.name, held(token.scopes), token.id, address)

    async def create(
        self, name: str, scopes: Iterable[str], expires_in: float | None, by: str
    ) -> tuple[TokenRecord, str]:
        """A new token: what is kept of it, and the text that is shown once.

        Arguments:
            expires_in: seconds from now; None for never.

        Raises InvalidError, AlreadyExistsError.
        """
        if not _NAME.fullmatch(name):
            raise InvalidError(
                f"{name!r} is not a name of a token: letters, digits, dashes, dots, underscores, at most 63."
            )
        if expires_in is not None and expires_in <= 0:
            raise InvalidError("A token cannot expire before it is made.")
        secret, now = secrets.token_urlsafe(32), self._now()
        expires = None if expires_in is None else now + expires_in
        token = TokenRecord(secrets.token_hex(6), name, scopes_of(scopes), hash_of(secret), now, by, expires)
        await self._store.add_token(token)
        self._tokens[token.id] = token
        return token, f"{PREFIX}{token.id}_{secret}"

    async def rotate(self, name: str, overlap: float) -> tuple[TokenRecord, str]:
        """A new secret for the token `name`; the old one is accepted for `overlap` more seconds. Raises NotFoundError."""
        if not 0 <= overlap <= MAX_OVERLAP:
            raise InvalidError(f"The old secret can be kept for at most {MAX_OVERLAP / 86400:.0f} days.")
        token, secret, now = self._by_name(name), secrets.token_urlsafe(32), self._now()
        old = (token.hash, now + overlap) if overlap else (None, None)
        token = dataclasses.replace(token, hash=hash_of(secret), old_hash=old[0], old_until=old[1])
        await self._store.replace_token(token)
        self._tokens[token.id] = token
        if not overlap:
            self._changed(token.id)
        return token, f"{PREFIX}{token.id}_{secret}"

    async def delete(self, name: str) -> TokenRecord:
        """The token is worth nothing from now on. Raises NotFoundError."""
        token = self._by_name(name)
        await self._store.delete_token(token.id)
        self._tokens.pop(token.id, None)
        self._used.pop(token.id, None)
        self._changed(token.id)
        return token

    def _by_name(self, name: str) -> TokenRecord:
        for token in self._tokens.values():
            if token.name == name:
                return token
        known = ", ".join(sorted(token.name for token in self._tokens.values()))
        raise NotFoundError(f"There is no token {name!r}. {f'There are: {known}.' if known else 'There is none.'}")

    def _changed(self, identifier: str) -> None:
        for listener in self.on_change:
            listener(identifier)

    async def _note(self) -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        stored = {token.id: token.last_used_at or 0.0 for token in self._tokens.values()}
        fresh = {identifier: at for identifier, at in self._used.items() if at > stored.get(identifier, at)}
        if not fresh:
            return
        try:
            await self._store.note_use(fresh)
        except Error as error:
            log.warning("when tokens were last used could not be written down: %s", error)
            return
        for identifier, at in fresh.items():
            if identifier in self._tokens:
                self._tokens[identifier] = dataclasses.replace(self._tokens[identifier], last_used_at=at)


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def shown(token: TokenRecord) -> dict[str, object]:
    """A token as the API shows it: without its hashes."""
    return {
        "id": token.id,
        "name": token.name,
        "scopes": list(token.scopes),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "old_until": token.old_until,
    }
