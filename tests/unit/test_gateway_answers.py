from __future__ import annotations

import json

import pytest

from zygo.gateway.answers import CHUNKED, UNTIL_CLOSE, Answer, BadAnswer, read_answer, trailer_lines
from zygo.gateway.forwarded import TrustedProxies, peer_address
from zygo.gateway.refusals import Refusal, render, wants_json


def read(*headers: tuple[bytes, bytes], status: int = 200, version: str = "1.1", head_only: bool = False) -> Answer:
    return read_answer(status, b"OK", version, headers, head_only=head_only)


def test_an_answer_is_written_anew_without_what_belongs_to_one_hop() -> None:
    answer = read(
        (b"content-type", b"a/b"),
        (b"Content-Length", b"3"),
        (b"Connection", b"close, x"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Request-Id", b"theirs"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
    )
    assert answer.lines == [b"content-type: a/b\r\n", b"Set-Cookie: a=1\r\n", b"Set-Cookie: b=2\r\n"]
    assert (answer.length, answer.declared, answer.reusable) == (3, b"3", False)


def test_framing() -> None:
    assert read((b"Transfer-Encoding", b"Chunked")).length == CHUNKED
    assert read().length == UNTIL_CLOSE
    assert not read().reusable
    assert not read((b"Content-Length", b"1"), version="1.0").reusable
    assert read((b"Content-Length", b"5"), status=304).declared == b"5"
    assert read((b"Content-Length", b"5"), status=304).length == 0
    assert read((b"Content-Length", b"0"), status=204).declared is None
    head = read((b"Content-Length", b"5"), head_only=True)
    assert (head.length, head.declared, head.reusable) == (0, b"5", True)
    assert read((b"Transfer-Encoding", b"chunked"), head_only=True).length == 0


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ([(b"Content-Length", b"3"), (b"Content-Length", b"3")], {}),
        ([(b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")], {}),
        ([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3")], {}),
        ([(b"Transfer-Encoding", b"gzip, chunked")], {}),
        ([(b"Transfer-Encoding", b"gzip")], {}),
        ([(b"Content-Length", b"-1")], {}),
        ([], {"version": "2.0"}),
        ([], {"status": 99}),
    ],
)
def test_an_answer_that_could_be_read_in_two_ways_is_refused(
    headers: list[tuple[bytes, bytes]], options: dict[str, object]
) -> None:
    with pytest.raises(BadAnswer):
        read(*headers, **options)  # type: ignore[arg-type]


def test_trailers_that_frame_or_route_are_dropped() -> None:
    assert trailer_lines([(b"X-Sum", b"1"), (b"Content-Length", b"5"), (b"Host", b"x")]) == b"X-Sum: 1\r\n"


def refuse(refusal: Refusal, accept: bytes = b"", *, head_only: bool = False, keep_alive: bool = True) -> bytes:
    return render(refusal, request_id="r1", accept=accept, head_only=head_only, keep_alive=keep_alive, modern=True)


def test_a_refusal_says_what_happened_and_carries_the_id() -> None:
    raw = refuse(Refusal(503, "queue full", retry_after=1), keep_alive=False)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 1" in head
    assert b"Connection: close" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert body == b"queue full\nrequest id: r1\n"


def test_json_is_for_those_who_ask_for_it() -> None:
    raw = refuse(Refusal(502, "died", "Traceback"), b"application/json")
    said = json.loads(raw.partition(b"\r\n\r\n")[2])
    assert said == {"error": {"status": 502, "message": "died", "request_id": "r1", "details": "Traceback"}}
    assert not wants_json(b"text/html,application/json")
    assert not wants_json(b"*/*")


def test_a_refused_head_has_no_body_but_its_length() -> None:
    raw = refuse(Refusal(404, "no"), head_only=True)
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length: 18\r\n" in raw


def test_only_a_configured_proxy_is_believed_and_only_the_right_end() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    assert proxies.trusts("10.1.2.3")
    assert not proxies.trusts("11.1.2.3")
    assert not proxies.trusts("unknown")
    said = {
        b"x-forwarded-for": b"6.6.6.6, 8.8.8.8, 10.0.0.2",
        b"x-forwarded-proto": b"gopher, https",
        b"x-forwarded-host": b"a.example",
    }
    origin = proxies.origin("10.0.0.1", b"inner", said)
    assert (origin.client, origin.proto, origin.host) == (b"8.8.8.8", b"https", b"a.example")
    nonsense = proxies.origin("10.0.0.1", b"inner", {b"x-forwarded-for": b"6.6.6.6, junk"})
    assert (nonsense.client, nonsense.proto, nonsense.host) == (b"10.0.0.1", b"http", b"inner")


def test_nobody_is_trusted_by_default() -> None:
    assert not TrustedProxies().trusts("127.0.0.1")


def test_peer_addresses() -> None:
    assert peer_address(("::ffff:1.2.3.4", 5, 0, 0)) == "1.2.3.4"
    assert peer_address("") == "unknown"
