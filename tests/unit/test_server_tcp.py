"""The control API's TCP port: where it listens, and its certificate, which follows its files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tls_kit import Authority
from zygo.errors import ExecutionError
from zygo.server import tcp
from zygo.settings import Settings

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"control_host": "0.0.0.0", "control_port": 8400}, "tokens would travel in the clear"),
        ({"control_port": 8400, "control_cert": "/a.pem"}, "belong together"),
        ({"control_port": 8000}, "is the gateway's port"),
    ],
)
def test_where_it_does_not_listen(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ExecutionError, match=text):
        tcp.listen(Settings(**settings), 8000)


def test_it_listens_when_asked_and_says_what_has_the_port() -> None:
    assert tcp.listen(Settings(control_port=0), 8000) is None
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ExecutionError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            tcp.listen(Settings(control_port=port), 8000)
    sock = tcp.listen(Settings(control_port=port), 8000)
    assert sock is not None
    sock.close()


def test_a_certificate_that_is_renewed_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tcp, "CERTIFICATE_SECONDS", 0.01)
    caplog.set_level("INFO", "zygo.control")
    authority = Authority(tmp_path)
    pair = authority.pair("control", "control.test")

    async def serial(context: ssl.SSLContext) -> str:
        here, there = socket.socketpair()
        serving = asyncio.to_thread(context.wrap_socket, here, server_side=True)
        calling = asyncio.to_thread(authority.client().wrap_socket, there, server_hostname="control.test")
        served, called = await asyncio.gather(serving, calling)
        found = called.getpeercert()
        served.close()
        called.close()
        assert found is not None
        return str(found["serialNumber"])

    async def said(text: str) -> None:
        while text not in caplog.text:  # noqa: ASYNC110 - a log line sends no event
            await asyncio.sleep(0.01)

    async def body() -> None:
        certificate = tcp.Certificate(pair.certificate, pair.key)
        following = asyncio.create_task(certificate.follow())
        before = await serial(certificate.context)
        authority.pair("control", "control.test")
        await said("was renewed")
        assert await serial(certificate.context) != before
        after = await serial(certificate.context)
        pair.key.write_text("nothing")
        await said("cannot be used, the old one stays")
        assert await serial(certificate.context) == after
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    asyncio.run(asyncio.wait_for(body(), 60))
    with pytest.raises(ExecutionError, match="cannot be used"):
        tcp.Certificate(pair.certificate, pair.key)
