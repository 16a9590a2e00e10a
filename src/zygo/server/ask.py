"""What a proxy in front asks before it gets a certificate: is this name served here? 200 yes, 404 no.

`GET /?domain=NAME`, the question of Caddy's on-demand TLS, on a loopback port of its own: whoever knows a name may ask for a
certificate by connecting, and without this the proxy would get one for any.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 5.0
"""For a question to be complete."""

MAX_QUESTION = 4096

_LINE = re.compile(rb"GET (\S+) HTTP/1\.[01]\r\n")


async def listen(port: int, serves: Callable[[str], bool]) -> asyncio.Server:
    """Answer on 127.0.0.1:`port` by `serves`, which gets a name in lower case. Raises OSError when the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                question = await reader.readuntil(b"\r\n\r\n")
                status = _status(question, serves)
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked gets no answer, which means no
        finally:
            writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, limit=MAX_QUESTION)


def _status(question: bytes, serves: Callable[[str], bool]) -> bytes:
    line = _LINE.match(question)
    if line is None:
        return b"400 Bad Request"
    names = parse_qs(urlsplit(line[1].decode("latin-1")).query).get("domain", [])
    if len(names) != 1:
        return b"400 Bad Request"
    return b"200 OK" if serves(names[0].lower().rstrip(".")) else b"404 Not Found"
