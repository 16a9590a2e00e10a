"""Tokens, scopes and the guard before the control API, without a network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Mount, Route

from store_kit import everything, opened
from zygo.errors import AlreadyExistsError, AuthError, InvalidError, NotFoundError, PermissionDeniedError
from zygo.server import guard
from zygo.server.access import ADMIN, HOLDS, LOCAL, NEEDS, Caller, held, needed, scopes_of
from zygo.server.api import build_api
from zygo.server.audit import Audit
from zygo.server.calls import build_calls_api
from zygo.server.guard import Failures, Guard, caller_of
from zygo.server.tokens import Tokens
from zygo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from zygo.store.store import Store


class Anything:
    """In a server's place, for routes that are not called."""

    def __getattr__(self, name: str) -> Any:
        return Anything()


def routes() -> list[str]:
    control = [r for r in build_api(_Fake()).routes if not isinstance(r, Mount)]  # type: ignore[arg-type]
    anything: Any = Anything()
    calls = build_calls_api(anything, anything).routes
    found = [r for r in (*control, *calls) if isinstance(r, Route)]
    return [f"{method} {r.path}" for r in found for method in sorted((r.methods or set()) - {"HEAD"})]


class _Fake(Anything):
    settings = Settings()


def test_every_route_has_its_scope_declared() -> None:
    assert sorted(set(routes())) == sorted(NEEDS)


def test_paths_of_the_calls_api_are_found_in_the_table() -> None:
    from zygo.server.remote_calls import _pattern

    paths = (
        "/v1/functions",
        "/v1/functions/fu-1/stats",
        "/v1/calls",
        "/v1/calls/fc-1",
        "/v1/calls/fc-1/cancel",
        "/v1/results",
    )
    assert [needed("GET", _pattern(path)) for path in paths[:2]] == ["call", "call"]
    assert needed("GET", _pattern(paths[3])) == "call"
    assert [needed("POST", _pattern(path)) for path in (paths[2], *paths[4:])] == ["call"] * 3
    assert needed("POST", _pattern("/v1/functions/fu-1/autoscaler")) == "deploy"
    assert needed("GET", _pattern("/v1/functions/a/b/c")) == ADMIN


def test_a_route_that_nobody_declared_needs_the_strongest() -> None:
    assert needed("GET", "/v1/unheard-of") == ADMIN


def test_what_scopes_hold() -> None:
    assert held(["deploy"]) == {"read", "call", "deploy"}
    assert held(["read", "call"]) == {"read", "call"}
    assert held([]) == frozenset()
    assert HOLDS["admin"] == set(HOLDS)
    assert LOCAL.scopes == set(HOLDS)
    assert scopes_of(["call", "read", "call"]) == ("call", "read")
    with pytest.raises(InvalidError, match="'write' is not a scope"):
        scopes_of(["write"])
    with pytest.raises(PermissionDeniedError, match="needs the scope 'deploy'; the token 'x' has call"):
        Caller("x", held(["call"]), "id").require("deploy", "POST /v1/sessions")


def with_tokens(folder: Path, use: Callable[[Tokens, Store], Awaitable[None]], now: Callable[[], float]) -> None:
    async def life() -> None:
        async with opened(Settings(data_dir=folder)) as store:
            tokens = Tokens(store.access, now)
            await tokens.load()
            await use(tokens, store)
            await tokens.close()

    asyncio.run(life())


def test_a_token_from_its_making_to_its_end(tmp_path: Path) -> None:
    clock = [1000.0]

    async def use(tokens: Tokens, store: Store) -> None:
        made, text = await tokens.create("ci", ["deploy"], 100.0, "local:ada")
        assert text.startswith(f"zygo_{made.id}_")
        assert text.removeprefix(f"zygo_{made.id}_") not in await everything(store)
        caller = tokens.recognise(text, "10.0.0.1")
        assert caller == Caller("ci", held(["deploy"]), made.id, "10.0.0.1")
        assert tokens.list()[0].last_used_at == 1000.0
        for wrong in ("", "zygo_", text[:-1], text + "x", text.replace("zygo_", ""), f"zygo_nobody_{text}"):
            with pytest.raises(AuthError, match="not known"):
                tokens.recognise(wrong, "10.0.0.1")
        with pytest.raises(AlreadyExistsError):
            await tokens.create("ci", ["read"], None, "")
        with pytest.raises(InvalidError, match="not a name"):
            await tokens.create("a b", ["read"], None, "")

        gone: list[str] = []
        tokens.on_change.append(gone.append)
        _, second = await tokens.rotate("ci", 50.0)
        assert tokens.recognise(text, "") == tokens.recognise(second, "")
        clock[0] = 1050.0
        with pytest.raises(AuthError):
            tokens.recognise(text, "")
        _, third = await tokens.rotate("ci", 0.0)
        assert gone == [made.id]
        with pytest.raises(AuthError):
            tokens.recognise(second, "")
        clock[0] = 1100.0
        with pytest.raises(AuthError, match="expired"):
            tokens.recognise(third, "")
        await tokens.delete("ci")
        with pytest.raises(NotFoundError, match="no token 'ci'"):
            await tokens.delete("ci")

    with_tokens(tmp_path, use, lambda: clock[0])


def test_tokens_and_their_use_survive_a_restart(tmp_path: Path) -> None:
    texts = []

    async def first(tokens: Tokens, store: Store) -> None:
        texts.append((await tokens.create("shop", ["call"], None, ""))[1])
        tokens.recognise(texts[0], "")

    async def second(tokens: Tokens, store: Store) -> None:
        assert tokens.list()[0].last_used_at == 7.0
        assert tokens.recognise(texts[0], "").scopes == {"call"}

    with_tokens(tmp_path, first, lambda: 7.0)
    with_tokens(tmp_path, second, lambda: 8.0)


def test_failures_are_counted_by_address() -> None:
    clock = [0.0]
    failures = Failures(lambda: clock[0])
    assert [failures.add("10.0.0.1") for _ in range(guard.FAILURES)] == [0.0] * guard.FAILURES
    clock[0] = 20.0
    assert failures.add("10.0.0.1") == 40.0
    assert failures.add("10.0.0.2") == 0.0
    assert [failures.add(f"2001:db8::{n}") for n in range(11)][-1] == 60.0  # one customer's addresses
    clock[0] = 60.0
    assert failures.add("10.0.0.1") == 0.0
    for number in range(guard.ADDRESSES + 10):
        failures.add(f"a{number}")
    assert len(failures._seen) <= guard.ADDRESSES


def test_nothing_answers_without_a_token(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": caller_of(scope).name.encode()})
        if scope["path"] == "/long":
            await asyncio.Event().wait()

    async def use(tokens: Tokens, store: Store) -> None:
        _, text = await tokens.create("ci", ["read"], None, "")
        guarded = Guard(app, tokens)

        async def ask(*headers: tuple[bytes, bytes], path: str = "/") -> tuple[int, dict[bytes, bytes], bytes]:
            sent: list[dict[str, Any]] = []

            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                raise AssertionError("the body of a request without a token is not read")

            scope = {"type": "http", "headers": list(headers), "client": ("10.0.0.1", 1), "path": path}
            await guarded(scope, receive, send)
            return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent)

        good = (b"authorization", b"Bearer " + text.encode())
        assert (await ask(good))[::2] == (200, b"ci")
        for _ in range(guard.FAILURES):
            status, headers, body = await ask()
            assert (status, body, headers[b"www-authenticate"]) == (401, b"", b"Bearer")
        for wrong in ([], [(b"authorization", b"Bearer zygo_x_y")], [(b"authorization", b"Basic eDp5")], [good, good]):
            status, headers, body = await ask(*wrong)
            assert (status, body) == (429, b"")
            assert int(headers[b"retry-after"]) > 0
        assert (await ask(good))[0] == 200  # a good one is not shut out by others' failures
        long = asyncio.create_task(ask(good, path="/long"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await tokens.delete("ci")
        assert (await asyncio.wait_for(long, 5))[0] == 200  # begun, and cut
        assert (await ask(good))[0] == 429

    with_tokens(tmp_path, use, lambda: 1.0)


def test_the_audit_log(tmp_path: Path) -> None:
    async def use(tokens: Tokens, store: Store) -> None:
        audit = Audit(store.access)

        async def works() -> dict[str, Any]:
            return {"type": "published", "version": 3}

        async def fails() -> dict[str, Any]:
            raise InvalidError("no good")

        await audit.around(LOCAL, "deploy", "shop", works(), tag="v1", commit="")
        with pytest.raises(InvalidError):
            await audit.around(Caller("ci", held(["deploy"]), "t1", "10.0.0.9"), "deploy", "shop", fails())
        await audit.add(LOCAL, "token create", "ci")
        newest, failed, first = await audit.entries(10)
        assert (newest.action, newest.target) == ("token create", "ci")
        assert (failed.who, failed.address, failed.outcome, failed.detail) == (
            "ci",
            "10.0.0.9",
            "failed",
            '{"error": "no good"}',
        )
        assert first.who.startswith("local:")
        assert (first.outcome, first.detail) == ("published", '{"version": 3, "tag": "v1"}')
        assert [entry.target for entry in await audit.entries(10, "shop")] == ["shop", "shop"]

    with_tokens(tmp_path, use, lambda: 1.0)
