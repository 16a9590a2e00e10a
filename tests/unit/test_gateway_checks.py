from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zygo.gateway.checks import BadHead, Head, hostname, read_head

H = (b"Host", b"a.localhost")


def read(*headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", version: str = "1.1") -> Head:
    return read_head(method, target, version, headers)


REFUSED: list[tuple[str, int, dict[str, object], tuple[tuple[bytes, bytes], ...]]] = [
    ("no Host", 400, {}, ()),
    ("two Hosts", 400, {}, (H, H)),
    ("two different Hosts", 400, {}, (H, (b"host", b"b"))),
    ("empty Host", 400, {}, ((b"Host", b""),)),
    ("empty Host beside one", 400, {}, ((b"Host", b""), H)),
    ("Host with a path", 400, {}, ((b"Host", b"a/b"),)),
    ("Host with user info", 400, {}, ((b"Host", b"u@a"),)),
    ("Host with a comma", 400, {}, ((b"Host", b"a,b"),)),
    ("Host with a blank", 400, {}, ((b"Host", b"a b"),)),
    ("Host with a wild port", 400, {}, ((b"Host", b"a:80x"),)),
    ("HTTP/0.9", 400, {"version": "0.9"}, (H,)),
    ("HTTP/2.0", 505, {"version": "2.0"}, (H,)),
    ("RTSP method", 501, {"method": b"DESCRIBE"}, (H,)),
    ("CONNECT", 501, {"method": b"CONNECT", "target": b"a:1"}, (H,)),
    ("asterisk form", 400, {"method": b"OPTIONS", "target": b"*"}, (H,)),
    ("absolute form that differs", 400, {"target": b"http://evil/"}, (H,)),
    ("absolute form with user info", 400, {"target": b"http://u@a.localhost/"}, (H,)),
    ("other scheme", 400, {"target": b"ftp://a.localhost/"}, (H,)),
    ("TE and CL", 400, {}, (H, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3"))),
    ("CL and TE", 400, {}, (H, (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked"))),
    ("CL 0 and TE", 400, {}, (H, (b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked"))),
    ("TE and CL 0", 400, {}, (H, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"0"))),
    ("TE twice", 400, {}, (H, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked"))),
    ("TE gzip, chunked", 501, {}, (H, (b"Transfer-Encoding", b"gzip, chunked"))),
    ("TE identity", 501, {}, (H, (b"Transfer-Encoding", b"identity"))),
    ("TE on HTTP/1.0", 400, {"version": "1.0"}, (H, (b"Transfer-Encoding", b"chunked"))),
    ("CL twice", 400, {}, (H, (b"Content-Length", b"3"), (b"Content-Length", b"3"))),
    ("CL 0 twice", 400, {}, (H, (b"Content-Length", b"0"), (b"Content-Length", b"5"))),
    ("CL list", 400, {}, (H, (b"Content-Length", b"3, 3"))),
    ("CL signed", 400, {}, (H, (b"Content-Length", b"+3"))),
    ("CL absurd", 400, {}, (H, (b"Content-Length", b"9" * 30))),
    ("unknown expectation", 417, {}, (H, (b"Expect", b"tea"))),
    ("too many headers", 431, {}, (H, *((b"X", b"y"),) * 300)),
]


@pytest.mark.parametrize(("status", "options", "headers"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_could_be_read_in_two_ways_is_refused(
    status: int, options: dict[str, object], headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(BadHead) as caught:
        read(*headers, **options)  # type: ignore[arg-type]
    assert caught.value.status == status
    assert str(caught.value)


def test_an_ordinary_head_is_passed_on_without_what_is_not_for_the_app() -> None:
    head = read(
        H,
        (b"Accept", b"*/*"),
        (b"Connection", b"keep-alive, X-Private"),
        (b"X-Private", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Proxy-Connection", b"x"),
        (b"TE", b"trailers, deflate"),
        (b"Trailer", b"X"),
        (b"X-Forwarded-For", b"6.6.6.6"),
        (b"X_Forwarded_For", b"6.6.6.6"),
        (b"x-forwarded_host", b"evil"),
        (b"Forwarded", b"for=6.6.6.6"),
        (b"X-Real-IP", b"6.6.6.6"),
        (b"X-Request-Id", b"mine"),
        (b"Content_Length", b"5"),
        (b"my_header", b"kept"),
        (b"Cookie", b"a=b"),
    )
    assert head.lines == [b"Accept: */*\r\n", b"my_header: kept\r\n", b"Cookie: a=b\r\n"]
    assert head.keep_alive
    assert head.trailers
    assert head.length == 0
    assert head.forwarded is not None
    assert head.forwarded[b"x-forwarded-for"] == b"6.6.6.6"


def test_a_header_named_by_a_later_connection_header_is_dropped_too() -> None:
    assert read((b"X-Hop", b"1"), H, (b"Connection", b"x-hop")).lines == []
    assert read(H, (b"Connection", b"X-Hop"), (b"x-HOP", b"1")).lines == []


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", [], True),
        ("1.1", [b"close"], False),
        ("1.1", [b"Keep-Alive", b"Close"], False),
        ("1.1", [b"close", b"keep-alive"], False),
        ("1.0", [], False),
        ("1.0", [b"keep-alive"], True),
        ("1.0", [b"keep-alive, close"], False),
    ],
)
def test_keep_alive_is_what_all_connection_headers_together_say(
    version: str, connection: list[bytes], keeps: bool
) -> None:
    assert read(H, *((b"Connection", c) for c in connection), version=version).keep_alive is keeps


def test_an_upgrade_is_kept_and_h2c_is_only_ignored() -> None:
    upgrade = (b"Connection", b"Upgrade")
    assert read(H, upgrade, (b"Upgrade", b"websocket")).upgrade == b"websocket"
    assert read(H, (b"Upgrade", b"websocket")).upgrade == b""
    assert read(H, upgrade, (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")).upgrade == b""
    assert read(H, upgrade, (b"Upgrade", b"x"), (b"Content-Length", b"3"), method=b"POST").upgrade == b""
    assert read(H, upgrade, (b"Upgrade", b"websocket"), version="1.0").upgrade == b""


def test_the_absolute_form_becomes_a_path() -> None:
    head = read(H, target=b"http://A.localhost/x?y=1")
    assert (head.target, head.host) == (b"/x?y=1", b"A.localhost")
    assert read(H, target=b"http://a.localhost?y=1").target == b"/?y=1"
    assert read(H, target=b"http://a.localhost").target == b"/"


def test_http_1_0_may_come_without_a_host() -> None:
    assert read(version="1.0").host == b""


def test_blanks_around_a_host_are_not_part_of_it() -> None:
    assert read((b"Host", b" a:80\t")).host == b"a:80"


def test_framing_is_read() -> None:
    assert read(H, (b"Content-Length", b"12"), method=b"POST").length == 12
    assert read(H, (b"Transfer-Encoding", b"Chunked"), method=b"POST").length == -1
    assert read(H, (b"Expect", b"100-Continue"), (b"Content-Length", b"3")).expects
    assert not read(H, (b"Expect", b"whatever"), version="1.0").expects


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"A.LocalHost:8000", "a.localhost"),
        (b"a.localhost.", "a.localhost"),
        (b"a.localhost.:80", "a.localhost"),
        (b"[::1]:80", "[::1]"),
        (b"[::1]", "[::1]"),
        (b"127.0.0.1", "127.0.0.1"),
        (b"", ""),
    ],
)
def test_the_name_to_route_by(host: bytes, name: str) -> None:
    assert hostname(host) == name


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b"Upgrade", b"Te"]
            ),
            st.sampled_from([b"a", b"3", b"0", b"chunked", b"close", b"upgrade, x-a", b"", b"websocket"]),
        ),
        max_size=6,
    )
)
def test_what_is_accepted_has_one_host_and_one_framing(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        head = read_head(b"POST", b"/", "1.1", headers)
    except BadHead:
        return
    names = [name for name, _ in headers]
    assert names.count(b"Host") == 1
    assert names.count(b"Content-Length") + names.count(b"Transfer-Encoding") <= 1
    assert not any(
        line.lower().startswith(
            (b"host:", b"content-length:", b"transfer-encoding:", b"connection:", b"upgrade:", b"te:")
        )
        for line in head.lines
    )
