"""What httptools parsed, held against the rules: the pure gate between a client's bytes and a container.

httptools parses, it does not validate: it lets through two Hosts or none, an absolute form that differs from Host,
HTTP/0.9 and 2.0, RTSP, `Transfer-Encoding` on HTTP/1.0 and `gzip, chunked`. Whatever two readers could understand in
two ways is refused here, so that a container only ever sees heads which this file has written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Header = tuple[bytes, bytes]
Rule = Callable[["Head", bytes, bytes], None]

MAX_HEAD = 64 * 1024
"""Bytes of a request's head: line and headers. Browsers stop at about 16 KiB of cookies."""

MAX_HEADERS = 256
"""Headers of one request."""

KNOWN_NAMES = 4096
"""Spellings of header names whose rule is remembered."""

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT "
    b"CHECKOUT MERGE ACL BIND REBIND UNBIND MKCALENDAR MKACTIVITY LINK UNLINK PURGE QUERY M-SEARCH NOTIFY "
    b"SUBSCRIBE UNSUBSCRIBE".split()
)
"""What is passed on. The rest of what httptools knows belongs to RTSP, Icecast, HTTP/2 and forward proxies."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

FORWARDED = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-server",
        b"x-forwarded-scheme",
        b"x-forwarded-ssl",
        b"x-real-ip",
        b"x-request-id",
    )
)
"""What only the gateway may tell an app; what a client says under these names is dropped."""

_SPECIAL = HOP_BY_HOP | FORWARDED | {b"host", b"content-length", b"expect", b"http2-settings"}
_NEVER_NAMED = frozenset((b"close", b"keep-alive", b"upgrade"))
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


class BadHead(Exception):
    """The request is refused: `status`, and a text for the client that names the cause."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Head:
    """One checked request head.

    `lines` are the headers to pass on, ready to send, without Host, framing, hop-by-hop and forwarded ones. `length`
    is the body's in bytes, -1 when it is chunked. `upgrade` is the protocol asked for, b"" for none. `forwarded` holds
    what the client said under the FORWARDED names, lower-case, for a trusted proxy's sake.
    """

    # Class attributes are the defaults, so that a head only pays for what it uses.
    host = b""
    length = 0
    framed = False
    upgrade = b""
    connection: set[bytes] | None = None
    expects = False
    trailers = False
    forwarded: dict[bytes, bytes] | None = None

    def __init__(self, method: bytes, target: bytes, headers: Sequence[Header], modern: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.modern = self.keep_alive = modern
        self.lines: list[bytes] = []

    def header(self, name: bytes) -> bytes:
        """The first value of the header `name` (lower-case) as the client sent it, b"" without one."""
        return next((value for key, value in self.headers if key.lower() == name), b"")


def read_head(method: bytes, target: bytes, version: str, headers: Sequence[Header]) -> Head:
    """The checked head. Raises BadHead when it is not one that may be passed on."""
    if version != "1.1" and version != "1.0":
        raise BadHead(505 if version[:1] > "1" else 400, f"HTTP/{version} is not spoken here; use HTTP/1.1")
    if method not in METHODS:
        raise BadHead(501, f"the method {method.decode('latin-1')} is not supported")
    if len(headers) > MAX_HEADERS:
        raise BadHead(431, f"the request has {len(headers)} headers; at most {MAX_HEADERS} are accepted")
    head = Head(method, target, headers, version == "1.1")
    lines = head.lines
    known = _known
    for name, value in headers:
        rule = known[name] if name in known else _rule(name)
        if rule is None:
            lines.append(b"%b: %b\r\n" % (name, value))
        else:
            rule(head, name, value.strip(b" \t"))
    host = head.host
    if host:
        if _HOST.fullmatch(host) is None:
            raise BadHead(400, "the Host header is not a host name with an optional port")
    elif head.modern:
        raise BadHead(400, "the request has no Host header; HTTP/1.1 demands one")
    if head.connection is not None:
        _apply_connection(head, head.connection)
    if not target.startswith(b"/"):
        _not_origin_form(head)
    return head


def hostname(host: bytes) -> str:
    """The name to route by: lower-case, without the port and a final dot."""
    name = host.lower()
    if not name.endswith(b"]"):
        name = name.partition(b":")[0] if name[:1] != b"[" else name.rpartition(b":")[0]
    return name.rstrip(b".").decode("latin-1")


def _not_origin_form(head: Head) -> None:
    absolute = _ABSOLUTE.fullmatch(head.target)
    if absolute is None:
        raise BadHead(400, "the request target must be a path or an http:// address")
    authority, path = absolute.groups()
    if head.host and authority.lower() != head.host.lower():
        raise BadHead(400, "the request target and the Host header name different hosts")
    if _HOST.fullmatch(authority) is None:
        raise BadHead(400, "the request target does not name a valid host")
    head.host = authority
    head.target = path if path.startswith(b"/") else b"/" + path


def _rule(name: bytes) -> Rule | None:
    """What to do with a header of this name, None to pass it on; remembered for names as clients spell them."""
    lower = name.lower()
    rule = _SPECIAL_RULES.get(lower)
    if rule is None and b"_" in lower and lower.replace(b"_", b"-") in _SPECIAL:
        # An app that reads its headers through CGI's or WSGI's eyes cannot tell it from the real one.
        rule = _dropped
    if len(_known) < KNOWN_NAMES and len(name) < 64:
        _known[name] = rule
    return rule


def _host(head: Head, name: bytes, value: bytes) -> None:
    if head.host or not value:
        raise BadHead(400, "the request has more than one Host header" if value else "the Host header is empty")
    head.host = value


def _content_length(head: Head, name: bytes, value: bytes) -> None:
    if head.framed or not value.isdigit() or len(value) > 18:
        raise BadHead(400, "Content-Length must be one number, and not beside Transfer-Encoding")
    head.framed = True
    head.length = int(value)


def _transfer_encoding(head: Head, name: bytes, value: bytes) -> None:
    if not head.modern or head.framed:
        raise BadHead(400, "Transfer-Encoding is for HTTP/1.1 only, once, and not beside Content-Length")
    if value.lower() != b"chunked":
        raise BadHead(501, "the only Transfer-Encoding that is accepted is chunked")
    head.framed = True
    head.length = -1


def _connection(head: Head, name: bytes, value: bytes) -> None:
    head.connection = (head.connection or set()) | {token.strip(b" \t") for token in value.lower().split(b",")}


def _apply_connection(head: Head, tokens: set[bytes]) -> None:
    head.keep_alive = b"close" not in tokens and (head.modern or b"keep-alive" in tokens)
    if b"upgrade" in tokens and head.modern and head.length == 0:
        protocol = head.header(b"upgrade").strip(b" \t")
        # h2c is only dropped: HTTP/2 with a container, inside a tunnel, would bypass every check of this file.
        if not protocol.lower().startswith((b"h2", b"tls", b"http")):
            head.upgrade = protocol
    # Headers that Connection names were meant for this hop alone.
    named = tokens - _NEVER_NAMED
    if named:
        head.lines = [line for line in head.lines if line.partition(b":")[0].lower() not in named]


def _expect(head: Head, name: bytes, value: bytes) -> None:
    if not head.modern:
        return
    if value.lower() != b"100-continue":
        raise BadHead(417, "the only expectation that can be met is 100-continue")
    head.expects = True


def _te(head: Head, name: bytes, value: bytes) -> None:
    head.trailers = any(token.strip(b" \t") == b"trailers" for token in value.lower().split(b","))


def _forwarded(head: Head, name: bytes, value: bytes) -> None:
    if head.forwarded is None:
        head.forwarded = {}
    name = name.lower()
    said = head.forwarded.get(name)
    head.forwarded[name] = value if said is None else said + b", " + value


def _dropped(head: Head, name: bytes, value: bytes) -> None:
    pass


_SPECIAL_RULES: dict[bytes, Rule] = {
    **dict.fromkeys(HOP_BY_HOP | {b"http2-settings"}, _dropped),
    **dict.fromkeys(FORWARDED, _forwarded),
    b"host": _host,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"connection": _connection,
    b"expect": _expect,
    b"te": _te,
}

_known: dict[bytes, Rule | None] = {}
