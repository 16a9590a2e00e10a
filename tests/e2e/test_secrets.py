"""Named secrets: made by command, in containers' environments, an environment's own, and never shown."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from e2e.deploy_kit import answer, good, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place

# Dozens of commands each: on a busy machine that is minutes.
pytestmark = pytest.mark.timeout(400)

VALUE = "hunter2-and-more"

PROGRAM = """
import os
import zygo

app = zygo.App("safe", secrets=[zygo.Secret.from_dict({{"FIRST": "code", "SECOND": "code"}})])


@app.function(secrets=[{secret}, zygo.Secret.from_dict({{"SECOND": "code"}})], env={{"MODE": "code"}})
@zygo.fastapi_endpoint()
def show():
    return [os.environ.get(name) for name in ("PASSWORD", "FIRST", "SECOND", "MODE")]
"""

SAFE = PROGRAM.format(secret='zygo.Secret.from_name("database", required_keys=["PASSWORD"])')


@pytest.fixture
def secrets(deploys: Place) -> Iterator[Place]:
    """The session's server; the secrets and environments that a test made are gone after it."""
    yield deploys
    for environment in json.loads(good(deploys, "environment", "list", "--json").text):
        if environment["default"]:
            for secret in listed(deploys):
                good(deploys, "secret", "delete", secret["name"], "--yes")
        else:
            good(deploys, "environment", "delete", environment["name"], "--yes")


def listed(place: Place, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(good(place, "secret", "list", "--json", *options).text))


def test_a_secret_from_its_making_to_its_end(secrets: Place, write: Callable[..., Path], tmp_path: Path) -> None:
    place, program = secrets, write(SAFE)
    text = " ".join(refused(place, "deploy", str(program)).split())
    assert "There is no secret 'database'" in text
    assert "Make it with: zygo secret create database PASSWORD=..." in text
    served = place.zygo("serve", str(program))
    assert served.code == 1
    assert "zygo secret create database PASSWORD=..." in " ".join(served.text.split())

    made = good(place, "secret", "create", "database", "OTHER=x")
    assert "Made the secret database with OTHER." in made.text
    assert "zygo.Secret.from_name('database')" in made.text
    text = " ".join(refused(place, "deploy", str(program)).split())
    assert "Secret 'database' lacks PASSWORD" in text
    assert "zygo secret create database OTHER=... PASSWORD=... --force" in text

    # From stdin, from a .env file, from JSON; the word on the command line wins.
    values = ("SECOND=sealed", "MODE=sealed", "PASSWORD=-")
    assert "already" in refused(place, "secret", "create", "database", "PASSWORD=y")
    done = subprocess.run(
        [*place.command, "secret", "create", "database", "--force", "FIRST=sealed", *values],
        input=f"{VALUE}\n",
        capture_output=True,
        text=True,
        env=place.environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert VALUE not in done.stdout + done.stderr
    assert [(s["name"], s["keys"]) for s in listed(place)] == [("database", ["FIRST", "MODE", "PASSWORD", "SECOND"])]

    # In the order of secrets=: over what stands before it, under what comes after it, and under env=.
    first = place.deploy(program)
    url = first["urls"]["show"]
    assert answer(url) == [VALUE, "sealed", "code", "code"]
    assert place.deploy(program)["type"] == "unchanged"
    with place.serve(program) as serve:
        assert serve.get("show").json()[0] == VALUE
        assert VALUE not in serve.text

    # Other values are another state; what runs has them with its next containers.
    good(place, "secret", "create", "database", "PASSWORD=new", "--force")
    assert answer(url)[0] == VALUE
    good(place, "app", "rollover", "safe")
    assert answer(url) == ["new", "code", "code", "code"]
    assert place.deploy(program)["version"] == 2
    place.zygo("app", "rollback", "safe", "v1")
    assert answer(url)[0] == "new", "a revision holds the name of a secret, not its values"

    # It is nowhere that anybody looks.
    good(place, "secret", "create", "database", f"PASSWORD={VALUE}", "--force")
    good(place, "app", "rollover", "safe")
    for command in (
        ("app", "logs", "safe"),
        ("app", "history", "safe", "--json"),
        ("app", "list", "--json"),
        ("server", "logs"),
        ("server", "status", "--json"),
        ("server", "audit", "--json"),
        ("secret", "list"),
    ):
        assert VALUE not in good(place, *command).text, command
    for file in place.data.rglob("*"):
        if file.is_file() and file.suffix in (".db", ".db-wal", ".log", ".zygote") and file.stat().st_size < 2**26:
            assert VALUE.encode() not in file.read_bytes(), file
    entries = json.loads(good(place, "server", "audit", "--json").text)["entries"]
    assert next(e["detail"]["keys"] for e in entries if e["action"] == "secret create") == ["PASSWORD"]

    # When it is gone, what runs goes on.
    assert "say --yes" in refused(place, "secret", "delete", "database")
    good(place, "secret", "delete", "database", "--yes")
    assert answer(url)[0] == VALUE
    assert "zygo secret create database PASSWORD=..." in " ".join(refused(place, "app", "rollover", "safe").split())
    assert answer(url)[0] == VALUE
    assert "no secret 'database'. None is." in refused(place, "secret", "delete", "database", "--yes")
    good(place, "secret", "delete", "database", "--yes", "--allow-missing")


def test_each_environment_has_its_own(secrets: Place, write: Callable[..., Path]) -> None:
    place, program = secrets, write(SAFE)
    good(place, "environment", "create", "staging")
    good(place, "secret", "create", "database", "PASSWORD=ours")
    text = " ".join(refused(place, "deploy", str(program), "-e", "staging").split())
    assert "There is no secret 'database' in the environment 'staging'" in text
    assert "zygo secret create --env staging database PASSWORD=..." in text
    good(place, "secret", "create", "--env", "staging", "database", "PASSWORD=theirs")
    assert answer(place.deploy(program)["urls"]["show"])[0] == "ours"
    assert answer(place.deploy(program, "-e", "staging")["urls"]["show"])[0] == "theirs"
    # By its name it can be that of another one.
    program.write_text(PROGRAM.format(secret='zygo.Secret.from_name("database", environment_name="main")'))
    assert answer(place.deploy(program, "-e", "staging")["urls"]["show"])[0] == "ours"
    good(place, "environment", "delete", "staging", "--yes")
    good(place, "environment", "create", "staging")
    assert listed(place, "-e", "staging") == []


def test_what_is_refused_shows_no_value(secrets: Place, tmp_path: Path) -> None:
    place = secrets
    (tmp_path / "a.json").write_text(f'{{"A": 1, "B": "{VALUE}"}}')
    (tmp_path / "b.json").write_text(f'{{"B": "{VALUE}"')
    (tmp_path / "c.env").write_text(f"# a comment\nexport PASSWORD='{VALUE}'\n")
    for words, said in (
        ((VALUE,), "Value 1 is not KEY=VALUE"),
        ((f"A B={VALUE}",), "is not the name of an environment variable"),
        (("--from-json", str(tmp_path / "a.json")), "does not hold an object of texts"),
        (("--from-json", str(tmp_path / "b.json")), "is not JSON"),
        (("--from-dotenv", str(tmp_path / "nothing")), "cannot be read: No such file"),
        ((), "needs values"),
        ((f"BIG={VALUE * 5000}",), "at most 65,536"),
    ):
        text = refused(place, "secret", "create", "x", *words)
        assert said in " ".join(text.split()), text
        assert VALUE not in text
    assert "'a/b' is not a name of a secret" in refused(place, "secret", "create", "a/b", "A=1")
    good(place, "secret", "create", "file", "--from-dotenv", str(tmp_path / "c.env"), "MORE=1")
    assert [s["keys"] for s in listed(place)] == [["MORE", "PASSWORD"]]
    assert VALUE not in place.server_log()
