"""Custom domains: who may have which, and what is said of DNS."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from zygo.errors import ConflictError, InvalidError
from zygo.gateway.routes import Routes
from zygo.model import FunctionSpec, ImageSpec, WebSpec
from zygo.server import domains

OWN = "apps.example.net"


def spec(name: str, *names: str) -> FunctionSpec:
    web = WebSpec("fastapi_endpoint", custom_domains=names)
    return FunctionSpec(name, "m", name, ImageSpec("3.12"), web=web)


def app(name: str, kind: str = "deployed") -> Any:
    return SimpleNamespace(name=name, kind=kind)


def test_two_apps_cannot_have_one_domain() -> None:
    shop, blog = app("shop"), app("blog")
    others = [(shop, [spec("old", "a.example.com")]), (blog, [spec("post", "b.example.com", "*.example.com")])]
    domains.check(shop, [spec("f", "a.example.com", "c.example.com")], others, OWN)
    with pytest.raises(ConflictError, match=r"b.example.com of shop.f belongs to blog.post already"):
        domains.check(shop, [spec("f", "b.example.com")], others, OWN)
    with pytest.raises(ConflictError, match=r"\*.example.com of shop.f belongs to blog.post"):
        domains.check(shop, [spec("f", "*.example.com")], others, OWN)


def test_two_functions_cannot_either_and_the_servers_own_is_nobodys() -> None:
    with pytest.raises(InvalidError, match=r"functions 'f' and 'g' both want the domain a.example.com"):
        domains.check(app("shop"), [spec("f", "a.example.com"), spec("g", "a.example.com")], [], OWN)
    for name in (OWN, f"x.{OWN}", f"*.{OWN}"):
        with pytest.raises(InvalidError, match="below the server's own domain"):
            domains.check(app("shop"), [spec("f", name)], [], OWN)
    domains.check(app("shop", "ephemeral"), [spec("f", OWN)], [], OWN)


def test_an_exact_name_wins_over_a_wildcard() -> None:
    exact: Any = object()
    wild: Any = object()
    routes = Routes({"a.example.com": exact}, {}, {"example.com": wild})
    assert routes.find("a.example.com", 80) is exact
    assert routes.find("b.example.com", 80) is wild
    assert routes.find("example.com", 80) is None
    assert routes.find("a.b.example.com", 80) is None
    assert routes.serves("b.example.com")


@pytest.mark.parametrize(
    ("found", "here", "own", "text"),
    [
        ({"203.0.113.5"}, {"203.0.113.5"}, OWN, ""),
        ({"203.0.113.5"}, set(), OWN, ""),
        (None, {"203.0.113.5"}, OWN, f"is not in DNS. Make the record  shop.example.com. CNAME {OWN}."),
        ({"198.51.100.1"}, {"203.0.113.5"}, OWN, "leads to 198.51.100.1, which is not this server"),
        (None, {"203.0.113.5"}, "localhost", "shop.example.com. A 203.0.113.5"),
        (None, set(), "localhost", "shop.example.com. A ADDRESS OF THIS MACHINE"),
    ],
)
def test_the_record_that_is_missing(found: set[str] | None, here: set[str], own: str, text: str) -> None:
    said = domains.record_text("shop.example.com", found, here, own)
    assert text in said
    assert bool(text) == bool(said)


def test_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {OWN: {"192.0.2.9"}, "good.example.com": {"192.0.2.9"}, "zygo-check.wild.example.com": {"192.0.2.9"}}

    async def resolve(name: str) -> set[str] | None:
        return known.get(name)

    monkeypatch.setattr(domains, "_resolve", resolve)
    names = ["good.example.com", "*.wild.example.com", "bad.example.com"]
    (said,) = asyncio.run(domains.missing_records(names, OWN))
    assert "bad.example.com is not in DNS" in said
    assert asyncio.run(domains.missing_records([], OWN)) == []


def test_a_resolver_that_is_away_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(name: str) -> set[str] | None:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    monkeypatch.setattr(domains, "_resolve", resolve)
    monkeypatch.setattr(domains, "LOOKUP_SECONDS", 0.05)
    (said,) = asyncio.run(domains.missing_records(["a.example.com"], OWN))
    assert "is not known" in said
