"""Custom domains of a web function: what is one, in the form in which it is compared and looked up. Pure."""

from __future__ import annotations

import re
from typing import Any

from zygo.errors import InvalidError

_PART = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?")
_MAX = 253


def normalise_all(domains: Any, owner: str) -> tuple[str, ...]:
    """Each of `domains` (a text or several) once, in order. Raises InvalidError for what is none."""
    given = (domains,) if isinstance(domains, str) else tuple(domains or ())
    return tuple(dict.fromkeys(normalise(domain, owner) for domain in given))


def normalise(domain: Any, owner: str) -> str:
    """`domain` in lower case, without a final dot, other scripts as `xn--`; `*.` in front stands for every name right below.

    Raises InvalidError that says what it is instead, and shows a valid one.
    """

    def refused(why: str, mended: str = "") -> InvalidError:
        return InvalidError(
            f"{owner}: custom_domains has {domain!r}, {why}. Write custom_domains=[{mended or 'shop.example.com'!r}]."
        )

    if not isinstance(domain, str) or not domain.strip():
        raise refused("which is not the name of a domain")
    text = domain.strip()
    if "://" in text or "/" in text:
        inside = text.split("://")[-1].split("/")[0].split(":")[0]
        raise refused("and a domain has no scheme and no path", inside)
    name, colon, _ = text.partition(":")
    if colon:
        raise refused("and a domain has no port", name)
    wildcard = "*." if text.startswith("*.") else ""
    rest = _ascii(text[len(wildcard) :].rstrip("."))
    parts = rest.split(".")
    if "*" in rest:
        raise refused("and only *. in front of a domain stands for names", "*.example.com")
    if not all(len(part) <= 63 and _PART.fullmatch(part) for part in parts) or len(rest) > _MAX:
        raise refused("which cannot be the name of a domain: letters, digits and dashes, in parts of at most 63")
    if len(parts) < 2:
        raise refused("which is not a whole name: it has no dot")
    if parts[-1].isdigit():
        raise refused("which is an address, and a custom domain is a name")
    if parts[-1] == "localhost":
        raise refused("and names below localhost never leave the machine")
    return wildcard + rest


def matches(domain: str, host: str) -> bool:
    """Whether `host` is `domain`, or right below it when it is a wildcard."""
    return domain == host or (domain.startswith("*.") and host.partition(".")[2] == domain[2:])


def _ascii(text: str) -> str:
    try:
        return text.encode("idna").decode("ascii").lower() if not text.isascii() else text.lower()
    except UnicodeError:
        return text  # refused for its characters
