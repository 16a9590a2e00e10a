"""Environments: the same app in two of them at once, with hostnames, calls, logs, history and an end of its own in each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from e2e.deploy_kit import answer, good, refused
from e2e.http_kit import ask
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place

# Dozens of commands each: on a busy machine that is minutes.
pytestmark = pytest.mark.timeout(400)

SHOP = """
import os
import zygo

app = zygo.App("shop")


@app.function()
def plain():
    return f"{number} in {{os.environ['ZYGO_ENVIRONMENT']}}, {{os.environ['MODAL_ENVIRONMENT']}}"


@app.function()
@zygo.fastapi_endpoint()
def front(other: str = "", local: bool = False, own: bool = False):
    print("front {number} is asked")
    if own:
        return {number}
    if local:
        return plain.remote()
    return zygo.Function.from_name("shop", "plain", environment_name=other or None).remote()
"""

CALLER = """
import sys
import zygo

print(zygo.Function.from_name("shop", "plain", environment_name=(sys.argv[1:] or [None])[0]).remote())
"""


SEALED = """
import os
import zygo

app = zygo.App("sealed", secrets=[zygo.Secret.from_name("sealed")])


@app.function()
@zygo.fastapi_endpoint()
def word():
    return os.environ["WORD"]
"""


@pytest.fixture
def staging(place: Place) -> Iterator[Place]:
    """The session's server with a second environment, which is gone afterwards with what was deployed."""
    good(place, "environment", "create", "staging")
    yield place
    for name in sorted(names(place) - {"main"}):
        good(place, "environment", "delete", name, "--yes")
    for app in json.loads(good(place, "app", "list", "--json").text)["apps"]:
        good(place, "app", "stop", "--yes", app["name"])


def environments(place: Place) -> dict[str, dict[str, Any]]:
    found = json.loads(good(place, "environment", "list", "--json").text)
    return {environment["name"]: environment for environment in found}


def names(place: Place) -> set[str]:
    return set(environments(place))


def states(place: Place, *options: str) -> set[tuple[str, str, str, int]]:
    """What is live."""
    found = json.loads(good(place, "app", "list", "--json", *options).text)
    return {(a["environment"], a["name"], a["state"], a["version"]) for a in found["apps"]}


def host_answers(place: Place, host: str, path: str = "/") -> tuple[int, str]:
    """What the gateway says to a request for that hostname, whatever port it listens on."""
    status = place.status()
    assert status is not None
    got = ask(f"http://127.0.0.1:{status['gateway']['port']}{path}", headers={"Host": f"{host}.localhost"})
    return got.status_code, got.text


def test_one_app_in_two_environments(staging: Place, write: Callable[..., Path]) -> None:
    place = staging
    ours = place.deploy(write(SHOP.format(number=1)))
    theirs = place.deploy(write(SHOP.format(number=2)), "--env", "staging")
    assert (ours["version"], theirs["version"]) == (1, 1)
    assert answer(ours["urls"]["front"]) == "1 in main, main"
    assert answer(theirs["urls"]["front"]) == "2 in staging, staging"
    # By hostname: the environment's suffix comes after the workspace.
    assert host_answers(place, "local--shop-front") == (200, '"1 in main, main"')
    assert host_answers(place, "local-staging--shop-front") == (200, '"2 in staging, staging"')
    assert host_answers(place, "local-other--shop-front")[0] == 404

    # What runs in a container calls within its own environment unless it says another one; so do programs here.
    assert answer(theirs["urls"]["front"] + "?local=true") == "2 in staging, staging"
    assert answer(theirs["urls"]["front"] + "?other=main") == "1 in main, main"
    assert answer(ours["urls"]["front"] + "?other=staging") == "2 in staging, staging"
    caller = str(write(CALLER, "caller.py"))

    def calls(*words: str, env: dict[str, str] | None = None) -> str:
        done = place.zygo("python", *words, env=env)
        assert done.code == 0, done.text
        return done.text.strip()

    assert calls(caller) == "1 in main, main"
    assert calls(caller, "staging") == "2 in staging, staging"
    assert calls("-e", "staging", caller) == "2 in staging, staging"
    assert calls("--env=staging", caller, "main") == "1 in main, main"
    assert calls(caller, env={"ZYGO_ENVIRONMENT": "staging"}) == "2 in staging, staging"
    assert calls(caller, env={"MODAL_ENVIRONMENT": "staging"}) == "2 in staging, staging"

    # Lists, logs, histories and ends are apart.
    assert states(place) == {("main", "shop", "deployed", 1), ("staging", "shop", "deployed", 1)}
    assert states(place, "-e", "staging") == {("staging", "shop", "deployed", 1)}
    assert "Environment" in good(place, "app", "list").text
    assert "Environment" not in good(place, "app", "list", "-e", "main").text
    logs = good(place, "app", "logs", "shop", "-e", "staging").text
    assert "front 2 is asked" in logs
    assert "front 1 is asked" not in logs
    place.deploy(write(SHOP.format(number=3)), "-e", "staging")
    assert host_answers(place, "local-staging--shop-front-v1", "/?own=true") == (200, "2")
    good(place, "app", "rollback", "shop", "-e", "staging")
    assert answer(theirs["urls"]["front"]) == "2 in staging, staging"
    assert len(json.loads(good(place, "app", "history", "shop", "--json").text)["revisions"]) == 1
    assert len(json.loads(good(place, "app", "history", "shop", "-e", "staging", "--json").text)["revisions"]) == 3
    good(place, "app", "rollover", "shop", "--env", "staging")
    good(place, "app", "stop", "shop", "--yes")
    assert host_answers(place, "local--shop-front")[0] == 404
    assert answer(theirs["urls"]["front"]) == "2 in staging, staging"
    text = refused(place, "app", "stop", "shop", "--yes", "-e", "main")
    assert "is stopped already" in text
    assert "It is deployed in staging: say --env." in refused(place, "app", "rollover", "shop")
    failed = place.zygo("python", caller)
    assert failed.code == 1
    assert "It is in staging: say environment_name=." in failed.text
    # The environment is part of what the audit log says.
    entries = json.loads(good(place, "server", "audit", "--json").text)["entries"]
    told = [e["detail"].get("environment") for e in entries if (e["action"], e["outcome"]) == ("rollover", "published")]
    assert told[0] == "staging"


def test_serve_in_two_environments(staging: Place, write: Callable[..., Path], tmp_path: Path) -> None:
    place = staging
    one = write(SHOP.format(number=1), "shop.py")
    with place.serve(one) as ours, place.serve(one, "-e", "staging") as theirs:
        assert ours.get("front", path="?local=true").json() == "1 in main, main"
        assert theirs.get("front", path="?local=true").json() == "1 in staging, staging"
        assert host_answers(place, "local-staging--shop-front-dev", "/?local=true")[0] == 200
        assert {state[:3] for state in states(place)} == {("main", "shop", "serving"), ("staging", "shop", "serving")}
        # Beside it runs a program, there too.
        done = place.zygo("run", "-e", "staging", "-w", str(tmp_path / "result"), f"{one}::plain")
        assert done.code == 0, done.text
        assert (tmp_path / "result").read_text() == "1 in staging, staging"
        theirs.stop()
        assert ours.get("front").json() == "1 in main, main"


def test_what_is_refused(place: Place, write: Callable[..., Path]) -> None:
    program = str(write(SHOP.format(number=1)))
    mend = "Make it with: zygo environment create nowhere"
    for command in (
        ("deploy", program),
        ("serve", program),
        ("run", f"{program}::plain"),
        ("app", "list"),
        ("app", "history", "shop"),
        ("app", "logs", "shop"),
        ("app", "rollback", "shop"),
        ("app", "rollover", "shop"),
        ("app", "stop", "shop", "--yes"),
    ):
        first, *rest = command
        at = [first, rest[0], "-e", "nowhere", *rest[1:]] if first == "app" else [first, "-e", "nowhere", *rest]
        assert mend in " ".join(refused(place, *at).split()), command
    assert "default one, and stays" in refused(place, "environment", "delete", "main", "--yes")
    assert "is not a name of an environment" in refused(place, "environment", "create", "a/b")
    assert "Use 'a-b'" in refused(place, "environment", "create", "x", "--web-suffix", "A_b")
    assert "environment 'main' already" in refused(place, "environment", "create", "main")
    assert "no environment 'x'" in refused(place, "environment", "update", "x", "--set-name", "y")
    assert "no environment 'x'" in refused(place, "environment", "delete", "x", "--yes")
    assert "Say what to change" in refused(place, "environment", "update", "main")
    assert names(place) == {"main"}


def test_a_deleted_environment_takes_its_apps_along(staging: Place, write: Callable[..., Path]) -> None:
    place = staging
    program = write(SHOP.format(number=1))
    assert "Deployed shop v1 to staging in" in good(place, "deploy", str(program), "-e", "staging").text
    with place.serve(program, "-e", "staging") as served:
        assert environments(place)["staging"]["apps"] == ["shop"]
        with place.serve(program):
            assert "shop (serving, staging)" in good(place, "server", "status").text
        asked = refused(place, "environment", "delete", "staging")
        assert "stop shop? There is no terminal to ask at: say --yes." in asked
        done = good(place, "environment", "delete", "staging", "--yes")
        assert "stopped shop" in done.text
        assert served.exit_status() == 1
    assert host_answers(place, "local-staging--shop-front")[0] == 404
    assert host_answers(place, "local-staging--shop-front-dev")[0] == 404
    assert names(place) == {"main"}
    assert states(place) == set()
    until(lambda: not list((place.data / "logs" / "apps").glob("shop@in-*")), what="the logs to be gone")
    # One of the same name is a new one: nothing of the old one's is in it.
    good(place, "environment", "create", "staging")
    assert "There is no app 'shop'" in refused(place, "app", "logs", "shop", "-e", "staging")
    assert "no deployed app 'shop'" in refused(place, "app", "history", "shop", "-e", "staging")


def test_another_name_and_suffix_while_an_app_is_live(staging: Place, write: Callable[..., Path]) -> None:
    place = staging
    for number in (1, 2):
        place.deploy(write(SHOP.format(number=number)), "-e", "staging")
    assert "the environment 'main'" in refused(place, "environment", "update", "staging", "--set-web-suffix", "")
    good(place, "environment", "update", "staging", "--set-name", "test", "--set-web-suffix", "t")
    assert host_answers(place, "local-staging--shop-front")[0] == 404
    assert host_answers(place, "local-t--shop-front") == (200, '"2 in test, test"')
    assert host_answers(place, "local-t--shop-front-v1", "/?own=true") == (200, "1")
    assert host_answers(place, "local-staging--shop-front-v1")[0] == 404
    assert states(place) == {("test", "shop", "deployed", 2)}
    assert "front 2 is asked" in good(place, "app", "logs", "shop", "-e", "test").text


def test_a_restart_brings_both_back(fresh_place: Place, write: Callable[..., Path]) -> None:
    place = fresh_place
    place.start_server()
    good(place, "environment", "create", "staging", "--web-suffix", "s-1")
    # One that waits for the store when it wakes: its secret is there.
    good(place, "secret", "create", "sealed", "WORD=sesame", "-e", "staging")
    place.deploy(write(SEALED, "sealed.py"), "-e", "staging")
    place.deploy(write(SHOP.format(number=1)))
    place.deploy(write(SHOP.format(number=2)), "-e", "staging")
    place.stop_server()
    place.start_server()
    assert host_answers(place, "local--shop-front") == (200, '"1 in main, main"')
    assert host_answers(place, "local-s-1--shop-front") == (200, '"2 in staging, staging"')
    assert host_answers(place, "local-s-1--sealed-word") == (200, '"sesame"')
    for environment in ("main", "staging"):
        good(place, "app", "stop", "shop", "--yes", "-e", environment)
    good(place, "environment", "delete", "staging", "--yes")


def test_programs_say_their_environment(staging: Place, write: Callable[..., Path]) -> None:
    place = staging
    program = write(
        SHOP.format(number=4)
        + """

if __name__ == "__main__":
    with app.run(environment_name="staging"):
        print("run:", plain.remote())
    app.deploy(environment_name="staging")
    print("deployed:", plain.remote())
"""
    )
    done = place.zygo("python", str(program))
    assert done.code == 0, done.text
    assert "run: 4 in staging, staging" in done.text
    assert "deployed: 4 in staging, staging" in done.text
    assert states(place) == {("staging", "shop", "deployed", 1)}


def test_a_profile_names_one(staging: Place, write: Callable[..., Path], tmp_path: Path) -> None:
    place = staging
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = place.zygo("profile", "create", "stage", "--server", "local", "--env", "staging", "--activate", env=env)
    assert done.code == 0, done.text
    assert json.loads(place.zygo("profile", "current", "--json", env=env).text)["environment"] == "staging"
    place.deploy(write(SHOP.format(number=5)), env=env)
    assert states(place) == {("staging", "shop", "deployed", 1)}
    # What is said on the command line, or in the environment, counts more.
    place.deploy(write(SHOP.format(number=6)), "-e", "main", env=env)
    assert host_answers(place, "local--shop-front") == (200, '"6 in main, main"')
    assert "staging" in place.zygo("profile", "list", env=env).text
