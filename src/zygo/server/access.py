"""What a caller may do: scopes, callers, and the table of which scope every route needs. Pure.

Whoever opens the unix socket is the server's own user and may do everything. Over TCP every request carries a token, and a
token has scopes. `deploy` holds `read` and `call` too, and `admin` holds everything; `read` and `call` do not hold each
other, so that a program that only calls functions cannot read logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zygo.errors import InvalidError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Iterable

READ, CALL, DEPLOY, ADMIN = "read", "call", "deploy", "admin"

HOLDS: dict[str, frozenset[str]] = {
    READ: frozenset({READ}),
    CALL: frozenset({CALL}),
    DEPLOY: frozenset({READ, CALL, DEPLOY}),
    ADMIN: frozenset({READ, CALL, DEPLOY, ADMIN}),
}
"""Scope -> the scopes that it stands for."""

NEEDS: dict[str, str] = {
    "GET /v1/status": READ,
    "POST /v1/stop": ADMIN,
    "GET /v1/logs": ADMIN,
    "GET /v1/apps": READ,
    "GET /v1/apps/{name}/logs": READ,
    "GET /v1/apps/{name}/revisions": READ,
    "POST /v1/apps/{name}/deployments": DEPLOY,
    "POST /v1/apps/{name}/rollback": DEPLOY,
    "POST /v1/apps/{name}/rollover": DEPLOY,
    "POST /v1/apps/{name}/stop": DEPLOY,
    "POST /v1/sessions": DEPLOY,
    "POST /v1/sessions/{id}/hold": DEPLOY,
    "POST /v1/sessions/{id}/release": DEPLOY,
    "POST /v1/sessions/{id}/revisions": DEPLOY,
    "POST /v1/sessions/{id}/finish": DEPLOY,
    "POST /v1/sessions/{id}/resume": DEPLOY,
    "POST /v1/sessions/{id}/seen": DEPLOY,
    "POST /v1/sessions/{id}/end": DEPLOY,
    "POST /v1/blobs/missing": DEPLOY,
    "PUT /v1/blobs/{sha256}": DEPLOY,
    "GET /v1/environments": READ,
    "POST /v1/environments": ADMIN,
    "PATCH /v1/environments/{environment}": ADMIN,
    "DELETE /v1/environments/{environment}": ADMIN,
    "GET /v1/secrets": READ,
    "POST /v1/secrets": DEPLOY,
    "DELETE /v1/secrets/{name}": DEPLOY,
    "GET /v1/tokens": ADMIN,
    "POST /v1/tokens": ADMIN,
    "POST /v1/tokens/{name}/rotate": ADMIN,
    "DELETE /v1/tokens/{name}": ADMIN,
    "GET /v1/audit": ADMIN,
    # Those of web endpoints' callers: whoever has one gets in where the author of a function let nobody in.
    "GET /v1/proxy-tokens": READ,
    "POST /v1/proxy-tokens": ADMIN,
    "DELETE /v1/proxy-tokens/{id}": ADMIN,
    # What callers of functions ask of the server itself, behind /calls/zygo over TCP.
    "GET /v1/functions": CALL,
    "POST /v1/functions": CALL,
    "POST /v1/calls": CALL,
    "POST /v1/results": CALL,
    "GET /v1/calls/{id}": CALL,
    "POST /v1/calls/{id}/cancel": CALL,
    "GET /v1/functions/{id}/stats": CALL,
    "POST /v1/functions/{id}/autoscaler": DEPLOY,
}
"""Method and path of every route of the control API and of the calls API -> the scope that it needs over TCP."""


def needed(method: str, path: str) -> str:
    """The scope of a route. One that nobody has declared needs the strongest."""
    return NEEDS.get(f"{method} {path}", ADMIN)


@dataclass(frozen=True)
class Caller:
    """Whose request it is. `name` is a token's; a caller without an `address` came by the unix socket."""

    name: str
    scopes: frozenset[str]
    token_id: str = ""
    address: str = ""

    @property
    def remote(self) -> bool:
        """Whether it came over TCP, with a token."""
        return bool(self.token_id)

    def require(self, scope: str, what: str) -> None:
        """Raises PermissionDeniedError unless the caller has `scope`."""
        if scope not in self.scopes:
            have = ", ".join(sorted(self.scopes)) or "none"
            raise PermissionDeniedError(
                f"{what} needs the scope {scope!r}; the token {self.name!r} has {have}. "
                f"Make one that has it on the server: zygo token create NAME --scope {scope}"
            )


LOCAL = Caller("local", HOLDS[ADMIN])


def scopes_of(names: Iterable[str]) -> tuple[str, ...]:
    """The scopes as they are kept: those that are asked for, in order, once each. Raises InvalidError."""
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in HOLDS:
            raise InvalidError(f"{name!r} is not a scope. There are: {', '.join(HOLDS)}.")
    if not wanted:
        raise InvalidError(f"A token needs a scope: {', '.join(HOLDS)}.")
    return tuple(wanted)


def held(names: Iterable[str]) -> frozenset[str]:
    """Every scope that these stand for."""
    return frozenset().union(*(HOLDS.get(name, frozenset()) for name in names))
