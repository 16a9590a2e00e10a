"""`zygo deploy`: a persistent app, its revisions, and going back to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place

PROGRAM = """
    import zygo

    app = zygo.App("{name}")


    @app.function()
    @zygo.fastapi_endpoint()
    def number():
        return {number}
"""


@pytest.fixture
def stopping(place: Place) -> Iterator[Place]:
    """The session's server; what a test deployed there is stopped after it."""
    yield place
    for app in json.loads(place.zygo("app", "list", "--json").text)["apps"]:
        place.zygo("app", "stop", "--yes", app["name"])


def get(url: str) -> object:
    """The JSON at `url`. A hostname that the C library does not know is reached as curl reaches it: on this machine."""
    parts = httpx.URL(url)
    answer = httpx.get(parts.copy_with(host="127.0.0.1"), headers={"Host": parts.host}, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_deployed_app_answers_after_its_command(stopping: Place, write: Callable[..., Path]) -> None:
    first = stopping.deploy(write(PROGRAM.format(name="number", number=1)), "--tag", "one")
    assert (first["type"], first["version"]) == ("published", 1)
    assert get(first["urls"]["number"]) == 1

    same = stopping.deploy(write(PROGRAM.format(name="number", number=1)))
    assert (same["type"], same["version"]) == ("unchanged", 1)

    second = stopping.deploy(write(PROGRAM.format(name="number", number=2)))
    assert (second["version"], second["urls"]) == (2, first["urls"])
    assert get(first["urls"]["number"]) == 2

    revisions = json.loads(stopping.zygo("app", "history", "number", "--json").text)["revisions"]
    assert [(r["version"], r["active"], r["by"]["tag"]) for r in revisions] == [(2, True, ""), (1, False, "one")]
    assert [get(r["previews"]["number"]) for r in revisions] == [2, 1]
