"""Proxy tokens at the gateway: what lets a request pass, and what of it goes on."""

from __future__ import annotations

import pytest

from zygo.gateway.checks import read_head
from zygo.gateway.proxy_auth import Tokens, digest

TABLE = Tokens()
TABLE.digests = {b"wk-1": digest(b"ws-1"), b"wk-2": digest(b"ws-2")}

Lines = list[tuple[bytes, bytes]]


def check(headers: Lines) -> tuple[str, list[bytes]]:
    """What it is refused with ("" for nothing), and the lines that go on."""
    head = read_head(b"GET", b"/", "1.1", [(b"Host", b"a"), *headers])
    refusal = TABLE.check(head)
    assert refusal is None or refusal.status == 401
    return (refusal.text if refusal is not None else ""), head.lines


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Modal-Key", b"wk-1"), (b"Modal-Secret", b"ws-1")],
        [(b"zygo-key", b"wk-2"), (b"ZYGO-SECRET", b"ws-2")],
        [(b"Authorization", b"Bearer wk-1.ws-1")],
        [(b"authorization", b"bearer  wk-2.ws-2 ")],
        [(b"Modal-Key", b"wk-1"), (b"Modal-Secret", b"wrong"), (b"Zygo-Key", b"wk-1"), (b"Zygo-Secret", b"ws-1")],
    ],
)
def test_a_token_lets_through_and_stays_behind(headers: Lines) -> None:
    assert check([*headers, (b"X-Own", b"1")]) == ("", [b"X-Own: 1\r\n"])


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([], "missing"),
        ([(b"Authorization", b"Basic d2stMTp3cy0x")], "missing"),
        ([(b"Authorization", b"Bearer own-token")], "missing"),
        ([(b"Modal-Key", b"wk-1")], "invalid"),
        ([(b"Modal-Secret", b"ws-1")], "invalid"),
        ([(b"Modal-Key", b"wk-1"), (b"Zygo-Secret", b"ws-1")], "invalid"),
        ([(b"Modal-Key", b"wk-1"), (b"Modal-Secret", b"ws-2")], "invalid"),
        ([(b"Modal-Key", b"wk-3"), (b"Modal-Secret", b"ws-1")], "invalid"),
        ([(b"Authorization", b"Bearer wk-1.")], "invalid"),
        ([(b"Authorization", b"Bearer wk-1.ws-1.x")], "invalid"),
    ],
)
def test_everybody_else_is_refused(headers: Lines, text: str) -> None:
    assert check(headers)[0] == f"zygo: {text} credentials for proxy authorization"


def test_another_authorization_goes_on() -> None:
    headers = [(b"Modal-Key", b"wk-1"), (b"Modal-Secret", b"ws-1"), (b"Authorization", b"Bearer own-token")]
    assert check(headers) == ("", [b"Authorization: Bearer own-token\r\n"])


def test_no_token_no_way() -> None:
    empty = Tokens()
    head = read_head(b"GET", b"/", "1.1", [(b"Host", b"a"), (b"Modal-Key", b""), (b"Modal-Secret", b"")])
    refusal = empty.check(head)
    assert refusal is not None
    assert refusal.status == 401
