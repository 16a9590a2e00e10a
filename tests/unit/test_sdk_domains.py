"""custom_domains=: what is accepted, in which form, and what is said of the rest."""

from __future__ import annotations

import pytest

from zygo.errors import InvalidError
from zygo.sdk.domains import matches, normalise, normalise_all


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ("example.com", "example.com"),
        ("Shop.Example.COM.", "shop.example.com"),
        ("*.example.com", "*.example.com"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("_acme.example.com", "_acme.example.com"),
    ],
)
def test_what_is_one(given: str, form: str) -> None:
    assert normalise(given, "Function 'f'") == form


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("https://shop.example.com/a", r"no scheme and no path. Write custom_domains=\['shop.example.com'\]"),
        ("shop.example.com:8443", r"no port. Write custom_domains=\['shop.example.com'\]"),
        ("a.*.example.com", r"custom_domains=\['\*.example.com'\]"),
        ("*", "only \\*. in front"),
        ("shop", "no dot"),
        ("203.0.113.7", "is an address"),
        ("shop.localhost", "never leave the machine"),
        ("a b.example.com", "cannot be the name"),
        ("-a.example.com", "cannot be the name"),
        (f"{'a' * 64}.example.com", "cannot be the name"),
        ("", "not the name of a domain"),
        (7, "not the name of a domain"),
    ],
)
def test_what_is_none(given: object, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        normalise(given, "Function 'f'")


def test_one_text_or_several_each_once() -> None:
    assert normalise_all("example.com", "f") == ("example.com",)
    assert normalise_all(["b.example.com", "a.example.com", "B.example.com"], "f") == ("b.example.com", "a.example.com")
    assert normalise_all(None, "f") == ()


def test_a_wildcard_stands_for_one_label() -> None:
    assert matches("*.example.com", "a.example.com")
    assert not matches("*.example.com", "example.com")
    assert not matches("*.example.com", "a.b.example.com")
    assert matches("example.com", "example.com")
