"""`zygo serve --share`: which program opens the tunnel, and what is read from its output."""

from __future__ import annotations

import pytest

from zygo.cli.share import way
from zygo.errors import ExecutionError, InvalidError


def everything(name: str) -> str:
    return f"/usr/bin/{name}"


def nothing(_: str) -> None:
    return None


def test_cloudflared_says_its_url_in_a_box() -> None:
    found = way("", everything)
    assert found.name == "cloudflared"
    assert found.command(20000)[-2:] == ["--url", "http://127.0.0.1:20000"]
    lines = [
        "INF Thank you for trying Cloudflare Tunnel. ... (https://www.cloudflare.com/website-terms/) ...",
        "INF See https://developers.cloudflare.com/cloudflare-one/connections/connect-apps",
        'ERR failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel"',
        "INF |  https://seem-random-words.trycloudflare.com                                |",
    ]
    assert [found.url(line) for line in lines] == [None, None, None, "https://seem-random-words.trycloudflare.com"]


@pytest.mark.parametrize(
    ("where", "options", "host"),
    [
        ("me@example.com", [], "example.com"),
        ("example.com", [], "example.com"),
        ("-p 2222 -i 'my key' me@example.com", ["-p", "2222", "-i", "my key"], "example.com"),
        ("ssh://me@example.com:2222", [], "example.com"),
    ],
)
def test_ssh_says_the_port_that_it_got(where: str, options: list[str], host: str) -> None:
    found = way(where, everything)
    command = found.command(20000)
    at = command.index("-R")
    assert command[at + 1] == "*:0:127.0.0.1:20000"
    assert command[at + 2 : -1] == options
    line = "Allocated port 43211 for remote forward to 127.0.0.1:20000"
    assert found.url(line) == f"http://{host}:43211"
    assert found.url("Warning: Permanently added") is None


def test_with_neither_it_says_how_to_get_one() -> None:
    with pytest.raises(ExecutionError, match=r"cloudflared(.|\n)*ZYGO_SHARE_SSH=user@host"):
        way("", nothing)
    with pytest.raises(ExecutionError, match="apt-get install openssh-client"):
        way("me@example.com", nothing)
    with pytest.raises(InvalidError, match="cannot be split"):
        way("'me@example.com", everything)
