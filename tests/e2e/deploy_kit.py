"""What the tests of deployed apps share: small programs, an app's history, requests to its URLs by hostname."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from e2e.http_kit import ask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zygo.testing.harness import Finished, Place

NUMBER = """
import os
import zygo

app = zygo.App("{name}")


@app.function({options})
@zygo.fastapi_endpoint()
def number():
    return {number}
"""


def number(value: int, name: str = "number", options: str = "", more: str = "") -> str:
    """A program whose `number` answers `value`."""
    return NUMBER.format(name=name, number=value, options=options) + more


def history(place: Place, app: str) -> list[dict[str, Any]]:
    """The revisions of `app`, newest first."""
    return list(json.loads(good(place, "app", "history", app, "--json").text)["revisions"])


def versions(place: Place, app: str) -> list[int]:
    """The versions in the history, newest first; the newest is the active one."""
    found = history(place, app)
    assert [r["version"] for r in found if r["active"]] == [found[0]["version"]]
    return [r["version"] for r in found]


def listed(place: Place) -> dict[str, dict[str, Any]]:
    """What `zygo app list` says, by name."""
    found = json.loads(good(place, "app", "list", "--json").text)
    return {app["name"]: app for app in [*found["stopped"], *found["apps"]]}


def good(place: Place, *command: str) -> Finished:
    """A command that must succeed."""
    done = place.zygo(*command)
    assert done.code == 0, done.text
    return done


def refused(place: Place, *command: str, **how: Any) -> str:
    """A command that must fail as commands do: status 1, no traceback of zygo's own; what it said."""
    done = place.zygo(*command, **how)
    assert done.code == 1, f"{done.code}: {done.text}"
    assert "site-packages/zygo" not in done.text
    assert "src/zygo/server" not in done.text, done.text
    return done.text


def deploying(place: Place, file: Path, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`zygo deploy` in the background; whoever starts it waits for it."""
    return subprocess.Popen(
        [*place.command, "deploy", str(file), *options],
        cwd=file.parent,
        env={**place.environment, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answer(url: str) -> Any:
    """The JSON at `url`; it must be there."""
    got = ask(url)
    assert got.status_code == 200, got.text
    return got.json()


def stop_all(place: Place) -> None:
    """Stop every deployed app."""
    for name, app in listed(place).items():
        if app.get("state") == "deployed":
            good(place, "app", "stop", "--yes", name)
