"""Requests longer than a client's connection may be idle: 303 to the same URL with an id, where the answer is fetched."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests

from integration.proxy_kit import HOST, get, last, parse_head, rig, run, scripted, until, uvicorn_at
from zygo.gateway import long
from zygo.gateway.container import Backend
from zygo.gateway.proxy_auth import Tokens, digest
from zygo.gateway.routes import Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from integration.proxy_kit import Receive, Rig, Scope, Send

pytestmark = pytest.mark.timeout(60)

WAIT = 0.15
"""Seconds until a 303. The tests wait for what happens, however often it is sent until then."""


@dataclass
class Work:
    """An application that answers when it is told to."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    finished: int = 0
    left: int = 0
    bodies: list[bytes] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.begun += 1
        self.clients.append(scope["client"][0])
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(bytes(body))
        if scope["path"] != "/quick":
            gone, going = asyncio.ensure_future(receive()), asyncio.ensure_future(self.go.wait())
            await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
            for waits in (gone, going):
                waits.cancel()
            if not self.go.is_set():
                self.left += 1
                return
        said = b"%b %b %b" % (scope["method"].encode(), scope["path"].encode(), scope["query_string"])
        headers = [(b"x-own", b"yes"), (b"content-type", b"text/plain")]
        if scope["path"] != "/stream":
            headers.append((b"content-length", b"%d" % len(said)))
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        if scope["path"] == "/stream":
            for _ in range(64):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            said = b""
        await send({"type": "http.response.body", "body": said})
        self.finished += 1


@asynccontextmanager
async def working(**options: Any) -> AsyncIterator[tuple[Work, Rig]]:
    work = Work()
    async with uvicorn_at(work) as path, rig(path, response_wait=WAIT, **options) as r:
        yield work, r


async def asked(r: Rig, raw: bytes) -> tuple[int, str]:
    """Send `raw` on a connection of its own: status and Location, with its case."""
    answer = await r.ask(raw)
    status, _ = parse_head(answer)
    place = next((line[10:] for line in answer.decode("latin-1").split("\r\n") if line.startswith("Location: ")), "")
    return status, place


def test_a_get_is_sent_on_until_its_answer_is_there() -> None:
    async def main() -> None:
        async with working() as (work, r):
            status, place = await asked(r, last(b"/long?a=b"))
            assert status == 303
            assert place.startswith("/long?a=b&__zygo_call_id=rq-")
            # Waiting there is told to come again, at the same place.
            assert await asked(r, last(place.encode())) == (303, place)
            work.go.set()
            answer = await r.ask(last(place.encode()))
            assert parse_head(answer)[0] == 201
            assert b"x-own: yes\r\n" in answer
            assert answer.endswith(b"\r\n\r\nGET /long a=b")
            assert (work.begun, work.finished, work.clients) == (1, 1, ["127.0.0.1"])
            record = await r.record()
            assert (record.status, record.path, record.error) == (201, "/long", None)
            # It is fetched once.
            answer = await r.ask(last(place.encode()))
            assert parse_head(answer)[0] == 404
            assert b"it was fetched already, nobody came for it within 60 s, or the server was restarted" in answer
            assert not r.gateway.kept.by_key
            assert not r.gateway.kept.absent

    run(main())


def test_one_kept_connection_does_it_all() -> None:
    async def main() -> None:
        async with working() as (work, r), await r.connect() as c:
            c.send(get(b"/long"))
            head = await c.upto(b"\r\n\r\n")
            await c.exactly(int(parse_head(head)[1][b"content-length"]))
            place = head.partition(b"Location: ")[2].partition(b"\r\n")[0]
            c.send(get(place))
            work.go.set()
            assert (await c.answer())[2] == b"GET /long "
            c.send(get(b"/quick"))
            assert (await c.answer())[0] == 201

    run(main())


@pytest.mark.parametrize("client", ["curl", "curl -X POST", "requests", "httpx", "urllib"])
def test_a_post_is_followed_as_clients_do(client: str) -> None:
    body = b"0123456789" * 20_000

    async def main() -> None:
        async with working() as (work, r):
            url = f"http://127.0.0.1:{r.port}/post"

            async def go() -> None:
                # At least two rounds at the place: then the answer.
                await until(lambda: bool(r.gateway.kept.by_key), "a 303")
                kept = next(iter(r.gateway.kept.by_key.values()))
                first = kept.due
                await until(lambda: kept.due > first, "a second wait")
                work.go.set()

            going = asyncio.ensure_future(go())
            status, text = await (
                _curl(url, body, client) if "curl" in client else asyncio.to_thread(_post, client, url, body)
            )
            await going
            assert (status, text) == (201, "POST /post ")
            assert work.bodies == [body]
            assert work.begun == 1

    run(main())


async def _curl(url: str, body: bytes, command: str) -> tuple[int, str]:
    options = ["-sSL", "--max-redirs", "1000", "--max-time", "30", "--noproxy", "*", "-H", f"Host: {HOST}"]
    options += ["--data-binary", "@-", "-w", "%{http_code}", *command.split()[1:]]
    process = await asyncio.create_subprocess_exec(
        "curl", *options, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(body)
    return int(out[-3:]), out[:-3].decode()


def _post(client: str, url: str, body: bytes) -> tuple[int, str]:
    headers = {"Host": HOST}
    if client == "requests":
        with requests.Session() as session:
            session.trust_env = False
            session.max_redirects = 1000
            answer = session.post(url, data=body, headers=headers, timeout=30)
            return answer.status_code, answer.text
    if client == "httpx":
        with httpx.Client(trust_env=False, follow_redirects=True, max_redirects=1000, timeout=30) as http:
            found = http.post(url, content=body, headers=headers)
            return found.status_code, found.text
    import urllib.request

    class Following(urllib.request.HTTPRedirectHandler):
        max_redirections = max_repeats = 1000

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Following)
    with opener.open(urllib.request.Request(url, body, headers), timeout=30) as got:
        return got.status, got.read().decode()


def test_an_answer_that_nobody_waits_for_is_kept_without_being_read() -> None:
    async def main() -> None:
        async with working() as (work, r):
            _, place = await asked(r, last(b"/stream"))
            work.go.set()
            await until(lambda: bool(next(iter(r.gateway.kept.absent)).upstream), "handed over")
            upstream = next(iter(r.gateway.kept.absent)).upstream
            assert upstream is not None
            await until(lambda: upstream.read_paused, "reading stopped")
            assert work.finished == 0  # 4 MB wait where they are made
            async with await r.connect() as c:
                c.send(get(place.encode()))
                status, headers, body = await c.answer()
                assert (status, headers[b"x-own"], len(body)) == (201, b"yes", 64 * 65536)
            assert work.finished == 1
            # To a client of HTTP/1.0 the same is an answer that ends with its connection.
            work.go.clear()
            _, place = await asked(r, last(b"/stream"))
            work.go.set()
            await until(lambda: work.begun == 2, "begun")
            answer = await r.ask(b"GET %b HTTP/1.0\r\nHost: %b\r\n\r\n" % (place.encode(), HOST.encode()))
            assert b"chunked" not in answer
            assert hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).digest() == hashlib.sha256(b"x" * 4194304).digest()

    run(main())


def test_methods() -> None:
    async def main() -> None:
        async with working() as (work, r):
            _, place = await asked(r, last(b"/h", method=b"HEAD"))
            assert (await asked(r, last(place.encode())))[0] == 405
            work.go.set()
            answer = await r.ask(last(place.encode(), method=b"HEAD"))
            assert parse_head(answer)[0] == 201
            assert answer.endswith(b"\r\n\r\n")
            work.go.clear()
            for method in (b"PUT", b"DELETE", b"PATCH"):
                _, place = await asked(r, last(b"/m", b"Content-Length: 2\r\n\r\nhi", method=method))
                assert (await asked(r, last(place.encode(), method=b"HEAD")))[0] == 405
                assert (await asked(r, last(place.encode(), b"Content-Length: 1\r\n\r\nx")))[0] == 400
                work.go.set()
                assert (await r.ask(last(place.encode(), method=method))).endswith(method + b" /m ")
                work.go.clear()
            # A browser's question whether a page may follow is the application's.
            work.go.set()
            _, place = 0, "/o?__zygo_call_id=rq-none"
            assert b"OPTIONS /o " in await r.ask(last(place.encode(), method=b"OPTIONS"))

    run(main())


def test_the_redirect_stays_on_this_host_and_lets_pages_follow() -> None:
    async def main() -> None:
        async with working() as (work, r):
            for path, begin in (
                (b"//evil.example/x", "/.//evil.example/x?"),
                (b"/\\evil.example?y=1", "/./\\evil.example?y=1&"),
            ):
                _, place = await asked(r, last(path))
                assert place.startswith(begin)
                work.go.set()
                assert (await asked(r, last(place.encode())))[0] == 201
                work.go.clear()
            answer = await r.ask(last(b"/", b"Origin: https://page.example"))
            assert b"Access-Control-Allow-Origin: https://page.example\r\n" in answer
            work.go.set()
            await until(lambda: bool(r.gateway.kept.absent), "kept")
            next(iter(r.gateway.kept.absent)).give_up("the test is over")

    run(main())


def test_only_whoever_has_the_id_at_the_same_host_and_with_the_same_token() -> None:
    async def main() -> None:
        async with working() as (work, r):
            tokens = Tokens()
            tokens.digests = {b"wk-1": digest(b"ws-1")}
            from dataclasses import replace

            locked = replace(r.endpoint, tokens=tokens)
            r.gateway.routes = Routes({HOST: locked, "open.localhost": r.endpoint}, {})
            key = (b"Zygo-Key: wk-1", b"Zygo-Secret: ws-1")
            _, place = await asked(r, last(b"/secret", *key))
            assert (await asked(r, last(place.encode())))[0] == 401
            assert (await asked(r, last(place.encode(), b"Zygo-Key: wk-1", b"Zygo-Secret: no")))[0] == 401
            elsewhere = get(place.encode(), b"Connection: close", host="open.localhost")
            assert (await asked(r, elsewhere))[0] == 404
            assert (await asked(r, last(place.encode()[:-1] + b"~", *key)))[0] == 404
            assert (await asked(r, last(b"/secret?__zygo_call_id=", *key)))[0] == 404
            assert (await asked(r, get(place.encode(), b"Connection: close", host="nowhere.localhost")))[0] == 404
            work.go.set()
            assert (await r.ask(last(place.encode(), *key))).endswith(b"GET /secret ")
            assert work.begun == 1

    run(main())


def test_a_client_that_is_gone_for_ever_is_given_up() -> None:
    async def main() -> None:
        async with working() as (work, r):
            r.gateway.kept.seconds = 0.1
            await asked(r, last(b"/gone"))
            record = await r.record()
            assert (record.status, record.error) == (499, "nobody came for the answer within 0.1 s")
            await until(lambda: work.left == 1, "the application heard of it")
            await until(lambda: r.admission.in_flight == 0, "its place is free")

    run(main())


def test_one_that_leaves_at_the_place_may_come_again_and_before_it_has_left() -> None:
    async def main() -> None:
        async with working() as (work, r):
            async with await r.connect() as c:
                c.send(get(b"/early"))
                await until(lambda: work.begun == 1, "begun")
            await until(lambda: work.left == 1, "one that leaves without an id is cancelled")
            _, place = await asked(r, last(b"/again"))
            async with await r.connect() as c:
                c.send(get(place.encode()))
                await until(lambda: not r.gateway.kept.absent, "taken over")
            await until(lambda: bool(r.gateway.kept.absent), "alone again")
            work.go.set()
            assert (await r.ask(last(place.encode()))).endswith(b"GET /again ")
            assert work.left == 1

    run(main())


def test_the_last_one_to_come_gets_it() -> None:
    async def main() -> None:
        async with working() as (work, r):
            _, place = await asked(r, last(b"/two"))
            r.gateway.response_wait = 30.0
            async with await r.connect() as first, await r.connect() as second:
                first.send(get(place.encode()))
                await until(lambda: not r.gateway.kept.absent, "taken over")
                second.send(get(place.encode()))
                status, _, text = await first.answer()
                assert (status, b"by another request now" in text) == (409, True)
                work.go.set()
                assert (await second.answer())[2] == b"GET /two "

    run(main())


def test_too_many_alone_cancel_the_one_that_was_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long, "MAX_ABSENT", 2)

    async def main() -> None:
        async with working() as (work, r):
            for number in range(3):
                await asked(r, last(b"/%d" % number))
            record = await r.record()
            assert (record.path, record.status) == ("/0", 499)
            await until(lambda: work.left == 1, "cancelled")
            assert len(r.gateway.kept.absent) == 2
            work.go.set()
            for exchange in list(r.gateway.kept.absent):
                assert (await asked(r, last(exchange._where())))[0] == 201

    run(main())


def test_what_goes_wrong_meanwhile_is_told_to_who_comes() -> None:
    async def main() -> None:
        async with working(timeout=0.5) as (_work, r):
            _, place = await asked(r, last(b"/slow"))
            await until(lambda: bool(r.timed_out), "the function's time is up")
            answer = await r.ask(last(place.encode()))
            assert parse_head(answer)[0] == 504
            assert b"did not finish within its timeout of 0.5 s" in answer
            assert (await r.record()).status == 504

        async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda: bool(r.gateway.kept.absent), "alone")

        async with scripted(dies) as path, rig(path, response_wait=WAIT) as r:
            _, place = await asked(r, last(b"/dies", b"Content-Length: 0", method=b"POST"))
            await until(lambda: bool(r.died), "dead")
            assert (await asked(r, last(place.encode())))[0] == 502

    run(main())


def test_the_wait_for_a_container_counts_too() -> None:
    async def main() -> None:
        work = Work()
        async with uvicorn_at(work) as path, rig(response_wait=WAIT, trusted_proxies=("127.0.0.1",)) as r:
            _, place = await asked(r, last(b"/cold", b"X-Forwarded-For: 192.0.2.7"))
            assert (await asked(r, last(place.encode())))[0] == 303
            assert (r.admission.waiting, work.begun) == (1, 0)
            r.admission.add(Backend("c-late", path, 1))
            await until(lambda: work.begun == 1, "begun with nobody there")
            assert work.clients == ["192.0.2.7"]  # the one who asked, not the one who fetches
            work.go.set()
            assert (await r.ask(last(place.encode()))).endswith(b"GET /cold ")
        async with rig(response_wait=WAIT, queue_timeout=0.4) as r:
            _, place = await asked(r, last(b"/never"))
            await until(lambda: not r.admission.waiting, "its time in the line is up")
            answer = await r.ask(last(place.encode()))
            assert parse_head(answer)[0] == 504
            assert b"no container became free within 0.4 s" in answer

    run(main())


def test_a_body_that_is_still_coming_is_not_interrupted() -> None:
    async def main() -> None:
        async with working() as (work, r), await r.connect() as c:
            work.go.set()
            c.send(get(b"/up", b"Transfer-Encoding: chunked", method=b"POST"))
            for _ in range(4):
                c.send(b"5\r\nhello\r\n")
                await asyncio.sleep(WAIT / 2)
            c.send(b"0\r\n\r\n")
            assert (await c.answer())[0] == 201
            assert work.bodies == [b"hello" * 4]

    run(main())


def test_a_stop_of_the_server_ends_what_is_alone_and_waits_for_who_is_there() -> None:
    async def main() -> None:
        async with working() as (work, r):
            r.gateway.response_wait = 30.0
            async with await r.connect() as there:
                there.send(get(b"/there"))
                await until(lambda: work.begun == 1, "begun")
                r.gateway.response_wait = WAIT
                _, _place = await asked(r, last(b"/alone"))
                closing = asyncio.ensure_future(r.gateway.close(10.0))
                await until(lambda: work.left == 1, "the one that is alone hears of the end")
                assert (await r.record()).error == "the server was stopped"
                work.go.set()
                assert (await there.answer())[2] == b"GET /there "
                await closing
                with pytest.raises(ConnectionRefusedError):
                    await r.connect()

    run(main())


def test_off_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        work = Work()
        work.go.set()
        async with uvicorn_at(work) as path, rig(path) as r:
            # The parameter is the application's own then.
            assert (await r.ask(last(b"/a?__zygo_call_id=rq-x"))).endswith(b"GET /a __zygo_call_id=rq-x")

    run(main())
