"""State in PostgreSQL, as its users see it: an app survives its server, and answers while the database is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from zygo.testing.harness import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from postgres_kit import Cluster

PROGRAM = """
    import os

    import zygo

    app = zygo.App("stateful", secrets=[zygo.Secret.from_dict({{"TOKEN": "{token}"}})])


    @app.function()
    @zygo.fastapi_endpoint()
    def token():
        return os.environ["TOKEN"]
"""


def get(url: str) -> object:
    """The JSON at `url`, reached on this machine whatever its name resolves to."""
    parts = httpx.URL(url)
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer = client.get(parts.copy_with(host="127.0.0.1"), headers={"Host": parts.host})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_app_in_postgresql_survives_its_server_and_answers_while_the_database_is_away(
    fresh_place: Place, postgres: Cluster, write: Callable[..., Path]
) -> None:
    url = postgres.create_database()
    fresh_place.environment["ZYGO_DATABASE_URL"] = url
    first = fresh_place.deploy(write(PROGRAM.format(token="tell-nobody")))
    endpoint = first["urls"]["token"]
    assert get(endpoint) == "tell-nobody"
    assert not (fresh_place.data / "zygo.db").exists()
    assert "tell-nobody" not in postgres.dump(url)

    with Place({"ZYGO_DATABASE_URL": url}) as other:
        refused = other.zygo("server", "start")
        assert refused.code != 0
        assert "Another zygo server uses postgresql://" in refused.text

    fresh_place.kill_server()
    fresh_place.start_server()
    assert get(endpoint) == "tell-nobody"

    postgres.stop()
    try:
        assert get(endpoint) == "tell-nobody"
    finally:
        postgres.start_again()
    second = fresh_place.deploy(write(PROGRAM.format(token="another")))
    assert (second["version"], get(endpoint)) == (2, "another")

    shown = refused.text + fresh_place.server_log() + fresh_place.zygo("server", "status", "--json").text
    assert "open-sesame" not in shown
    assert fresh_place.zygo("app", "stop", "--yes", "stateful").code == 0
