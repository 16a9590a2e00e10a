"""Proxy tokens: who shows one gets through, everybody else is refused before anything starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from e2e.http_kit import app_log, function_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Place, Serve

PROGRAM = """
import fastapi
import zygo

app = zygo.App("closed")


@app.function(gpu="h100")
@zygo.fastapi_endpoint(requires_proxy_auth=True)
def secret(request: fastapi.Request):
    return dict(request.headers)


@app.function()
@zygo.asgi_app(requires_proxy_auth=True)
def site():
    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": repr(scope["headers"]).encode()})

    return application


@app.function()
@zygo.fastapi_endpoint()
def open():
    return "open"
"""


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("closed") / "closed.py"
    path.write_text(PROGRAM)
    with shared_place.serve(path) as running:
        yield running
        assert running.stop() == 0
    shared_place.settle()


@pytest.fixture
def token(shared_place: Place) -> Iterator[tuple[str, str]]:
    done = shared_place.zygo("workspace", "proxy-tokens", "create", "--json")
    assert done.code == 0, done.text
    made = json.loads(done.text)
    yield made["id"], made["secret"]
    shared_place.zygo("workspace", "proxy-tokens", "delete", made["id"])


def test_without_a_token_nothing_starts(serve: Serve, shared_place: Place) -> None:
    answer = serve.get("secret")
    assert answer.status_code == 401
    assert "missing credentials for proxy authorization" in answer.text
    for headers in (
        {"Modal-Key": "wk-nobody", "Modal-Secret": "ws-nothing"},
        {"Zygo-Key": "", "Zygo-Secret": "ws-nothing"},
        {"Authorization": "Bearer wk-nobody.ws-nothing"},
    ):
        answer = serve.get("secret", headers=headers)
        assert answer.status_code == 401
        assert "invalid credentials for proxy authorization" in answer.text
    assert function_status(shared_place, "secret", "closed")["containers"] == 0
    assert serve.get("open").text == '"open"'


def test_three_ways_to_show_one(serve: Serve, token: tuple[str, str], shared_place: Place) -> None:
    identifier, secret = token
    for headers in (
        {"Modal-Key": identifier, "Modal-Secret": secret},
        {"zygo-key": identifier, "ZYGO-SECRET": secret},
        {"Authorization": f"Bearer {identifier}.{secret}"},
    ):
        answer = serve.get("site", headers={**headers, "X-Own": "kept"})
        assert answer.status_code == 200, answer.text
        assert "kept" in answer.text
        assert secret not in answer.text
        assert identifier not in answer.text
    assert secret not in app_log(shared_place, "closed")
    assert secret not in shared_place.server_log()
    assert secret.encode() not in b"".join(path.read_bytes() for path in shared_place.data.glob("zygo.db*"))


def test_another_authorization_is_the_applications(serve: Serve, token: tuple[str, str]) -> None:
    headers = {"Zygo-Key": token[0], "Zygo-Secret": token[1], "Authorization": "Bearer own-token"}
    assert "own-token" in serve.get("site", headers=headers).text


@pytest.mark.parametrize("wrong", ["other secret", "other id", "swapped"])
def test_a_token_is_both(serve: Serve, token: tuple[str, str], wrong: str) -> None:
    identifier, secret = token
    shown = {"other secret": (identifier, secret + "x"), "other id": ("wk-x", secret), "swapped": (secret, identifier)}
    key, value = shown[wrong]
    assert serve.get("site", headers={"Modal-Key": key, "Modal-Secret": value}).status_code == 401


def test_a_websocket_needs_one_too(serve: Serve, token: tuple[str, str]) -> None:
    from websockets.exceptions import ConnectionClosedOK, InvalidStatus
    from websockets.sync.client import connect

    url = serve.url("site").replace("http", "ws", 1)
    with pytest.raises(InvalidStatus) as caught:
        connect(url)
    assert caught.value.response.status_code == 401
    with (
        connect(url, additional_headers={"Authorization": f"Bearer {token[0]}.{token[1]}"}) as connection,
        pytest.raises(ConnectionClosedOK),
    ):
        connection.recv()


def test_tokens_are_listed_and_deleted(serve: Serve, shared_place: Place) -> None:
    made = shared_place.zygo("workspace", "proxy-tokens", "create")
    identifier = next(line.partition(": ")[2] for line in made.lines if line.startswith("Zygo-Key: "))
    secret = next(line.partition(": ")[2] for line in made.lines if line.startswith("Zygo-Secret: "))
    listed = shared_place.zygo("workspace", "proxy-tokens", "list")
    assert identifier in listed.text
    assert secret not in listed.text
    headers = {"Zygo-Key": identifier, "Zygo-Secret": secret}
    assert serve.get("secret", headers=headers).status_code == 200
    assert shared_place.zygo("workspace", "proxy-tokens", "delete", identifier).code == 0
    assert serve.get("secret", headers=headers).status_code == 401
    again = shared_place.zygo("workspace", "proxy-tokens", "delete", identifier)
    assert again.code == 1
    assert "no proxy token" in again.text


def test_tokens_outlive_the_server(fresh_place: Place) -> None:
    made = json.loads(fresh_place.zygo("workspace", "proxy-tokens", "create", "--json").text)
    fresh_place.kill_server()
    listed = json.loads(fresh_place.zygo("workspace", "proxy-tokens", "list", "--json").text)
    assert [token["id"] for token in listed] == [made["id"]]
    assert "secret" not in listed[0]
