"""Custom domains of deployed apps: who may have which, and whether DNS leads them here."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from zygo.errors import ConflictError, InvalidError
from zygo.interfaces import public_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zygo.model import FunctionSpec
    from zygo.server.live import LiveApp

LOOKUP_SECONDS = 3.0
"""For all lookups after a deploy together: they only warn, and a resolver that is away must not hold anyone."""


def of(spec: FunctionSpec) -> tuple[str, ...]:
    """The custom domains of a function."""
    return spec.web.custom_domains if spec.web is not None else ()


def check(
    app: LiveApp, specs: Iterable[FunctionSpec], others: Iterable[tuple[LiveApp, Iterable[FunctionSpec]]], own: str
) -> None:
    """Whether `app` may have the domains of its functions `specs`, beside `others`; `own` is the server's domain.

    Raises InvalidError for one below the server's own domain and for one that two functions want, ConflictError for one that
    another app has. An exact name below another app's wildcard is free: it wins there.
    """
    if app.kind != "deployed":
        return  # whatever else it is, it answers at none
    taken: dict[str, str] = {}
    for spec in specs:
        for domain in of(spec):
            if domain.removeprefix("*.") == own or domain.endswith(f".{own}"):
                raise InvalidError(
                    f"The custom domain {domain} of {spec.name!r} is below the server's own domain {own}. "
                    "Use label= for a name there."
                )
            if domain in taken:
                raise InvalidError(f"The functions {taken[domain]!r} and {spec.name!r} both want the domain {domain}.")
            taken[domain] = spec.name
    for other, theirs in others:
        if other is app or other.kind != "deployed":
            continue
        for spec in theirs:
            for domain in of(spec):
                if domain in taken:
                    raise ConflictError(
                        f"The custom domain {domain} of {app.name}.{taken[domain]} belongs to {other.name}.{spec.name} "
                        "already. Take it out there, or stop that app, first."
                    )


def record_text(domain: str, found: set[str] | None, here: set[str], own: str) -> str:
    """What is missing in DNS for `domain`, "" when nothing is.

    Arguments:
        found: the addresses that it has now; None when it has none.
        here: the addresses that lead to this server, as far as they are known.
        own: the server's domain, "localhost" for none.
    """
    if found and (found & here or not here):
        return ""
    if own != "localhost":
        alias = f"{domain}. CNAME {own}."
        apex = (
            "" if domain.startswith("*.") else " (where the name is a zone's own: A and AAAA with the same addresses)"
        )
    else:
        alias, apex = f"{domain}. A {next(iter(sorted(here)), 'ADDRESS OF THIS MACHINE')}", ""
    state = f"leads to {', '.join(sorted(found))}, which is not this server" if found else "is not in DNS"
    return f"The custom domain {domain} {state}. Make the record  {alias}{apex}"


async def missing_records(names: Iterable[str], own: str) -> list[str]:
    """A text for each of `names` (custom domains) that DNS does not lead here. Nothing when that cannot be told in time."""
    wanted = list(names)
    if not wanted:
        return []
    here = set(public_addresses())
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            asked = [name.replace("*.", "zygo-check.") for name in wanted]
            *found, base = await asyncio.gather(*(_resolve(name) for name in (*asked, own)))
    except TimeoutError:
        return [
            f"Whether DNS leads {', '.join(wanted)} here is not known: nothing answered within {LOOKUP_SECONDS:g} s."
        ]
    if own != "localhost" and base:
        here |= base  # also the address of a router in front, which this machine does not have
    return [text for name, got in zip(wanted, found, strict=True) if (text := record_text(name, got, here, own))]


async def _resolve(name: str) -> set[str] | None:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, 443, proto=socket.IPPROTO_TCP)
    except OSError:
        return None
    return {str(address[4][0]) for address in found}
