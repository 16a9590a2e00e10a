"""`zygo app`: what is deployed, its history, going back, and stopping it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zygo import errors
from zygo.cli import connected, logs
from zygo.cli.arguments import Env  # noqa: TC001  typer looks at it

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="Look at deployed apps and change them.", no_args_is_help=True)

app.command("logs")(logs.logs)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="APP", help="Name of a deployed app.")]
Strategy = Annotated[
    str, typer.Option("--strategy", help="rolling: new containers beside the old; recreate: the old ones end first.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.command("list")
def list_apps(env: Env = None, as_json: AsJson = False) -> None:
    """List the apps that are served, deployed, and stopped; of every environment unless one is named."""
    connected.run(lambda client, out: _list(client, out, as_json))


@app.command()
def history(name: Name, env: Env = None, as_json: AsJson = False) -> None:
    """List the revisions of an app, newest first."""
    connected.run(lambda client, out: _history(client, out, name, as_json))


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(metavar="[vN]", help="The version to go back to; else the one before.")
    ] = None,
    strategy: Strategy = "rolling",
    env: Env = None,
    as_json: AsJson = False,
) -> None:
    """Make an older revision the newest one."""
    number = _version(version)
    connected.run(
        lambda client, out: _change(client, out, name, "rollback", {"version": number, "strategy": strategy}, as_json)
    )


@app.command()
def rollover(name: Name, strategy: Strategy = "rolling", env: Env = None, as_json: AsJson = False) -> None:
    """Replace an app's containers by new ones of the same revision."""
    connected.run(lambda client, out: _change(client, out, name, "rollover", {"strategy": strategy}, as_json))


@app.command()
def stop(name: Name, yes: Yes = False, env: Env = None, as_json: AsJson = False) -> None:
    """Stop a deployed app for good: its URLs are gone, its history stays."""
    connected.run(lambda client, out: _stop(client, out, name, yes, as_json))


async def _list(client: Client, out: Output, as_json: bool) -> None:
    found = await client.apps()
    if client.environment:
        await _check(client)
        found = {kind: _within(client, found, kind) for kind in ("apps", "stopped")}
    if as_json:
        out.line(json.dumps(found, indent=2))
        return
    rows = [
        [_place(app), app["state"], f"v{app['version']}" if app["version"] else "", _containers(app), _urls(app)]
        for app in found["apps"]
    ]
    there = {_place(app) for app in found["apps"]}
    rows += [
        [_place(app), "stopped", f"v{app['version']}", "", ago(app["stopped_at"])]
        for app in found["stopped"]
        if _place(app) not in there
    ]
    if not rows:
        place = f" in {client.environment}" if client.environment else ""
        out.line(f"No app is deployed or served here{place}. Deploy one with: zygo deploy FILE")
        return
    several = len({environment for (environment, _), *_ in rows}) > 1
    out.table(
        [*(["Environment"] if several else []), "App", "State", "Version", "Containers", ""],
        [[*(place if several else place[1:]), *more] for place, *more in rows],
    )


async def _check(client: Client) -> None:
    """Raises NotFoundError unless the client's environment is there."""
    known = [environment["name"] for environment in await client.environments()]
    if client.environment not in known:
        raise errors.NotFoundError(
            f"There is no environment {client.environment!r}. There are: {', '.join(known)}. "
            f"Make it with: zygo environment create {client.environment}"
        )


def _place(app: dict[str, Any]) -> tuple[str, str]:
    return app["environment"], app["name"]


def _within(client: Client, found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The `apps` or the `stopped` ones of the environment that a command means."""
    environment = client.environment or found["environment"]
    return [app for app in found[kind] if app["environment"] == environment]


async def _history(client: Client, out: Output, name: str, as_json: bool) -> None:
    revisions = await client.history(name)
    if as_json:
        out.line(json.dumps({"app": name, "revisions": revisions}, indent=2))
        return
    rows = []
    for revision in revisions:
        by = revision["by"]
        commit = by["commit"][:10] + ("*" if by["dirty"] else "")
        what = f"rollback to v{by['rollback_of']}" if by["rollback_of"] else by["tag"]
        state = "active" if revision["active"] else "" if revision["kept"] else "not kept"
        preview = next(iter(revision["previews"].values()), "")
        rows.append(
            [f"v{revision['version']}", state, ago(revision["deployed_at"]), by["deployed_by"], commit, what, preview]
        )
    out.table(["Version", "State", "Deployed", "By", "Commit", "Tag", "Preview"], rows)


async def _change(client: Client, out: Output, name: str, what: str, body: dict[str, Any], as_json: bool) -> None:
    from zygo import model
    from zygo.cli import deploy
    from zygo.program import deploying, progress

    began = time.monotonic()
    if what == "rollback":
        body = {**body, "by": model.encode(deploying.provenance(None))}
    with out.working(f"Changing {name}..."):
        result = await progress.change(out, client, name, what, body)
    if as_json and result["type"] != "failed":
        out.line(json.dumps({**result, "name": name}, indent=2))
        return
    deploy.show(result, name, time.monotonic() - began, out)


async def _stop(client: Client, out: Output, name: str, yes: bool, as_json: bool) -> None:
    found = await client.apps()
    live, stopped = _within(client, found, "apps"), _within(client, found, "stopped")
    app = next((app for app in live if app["name"] == name and app["state"] == "deployed"), None)
    if app is None and any(app["name"] == name for app in stopped):
        raise errors.NotFoundError(f"The app {name!r} is stopped already.")
    if app is not None and not yes:
        count = sum(function["containers"] for function in app["functions"])
        confirm(f"Stop {name}? Its URLs will be gone, and {_counted(count)} will end.")
    with out.working(f"Stopping {name}..."):
        result = await client.stop_app(name)
    if as_json:
        out.line(json.dumps(result, indent=2))
    else:
        out.success(f"Stopped {name}; {_counted(result['containers'])} ended.")


def confirm(question: str) -> None:
    """Ask; ends the command unless the answer is yes. Raises InvalidError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise errors.InvalidError(f"{question} There is no terminal to ask at: say --yes.")
    if not typer.confirm(question):
        raise typer.Exit(1)


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.removeprefix("v")
    if not digits.isdecimal():
        raise errors.InvalidError(f"{text!r} is not a version. Write it as `zygo app history` shows it: v3.")
    return int(digits)


def _containers(app: dict[str, Any]) -> str:
    return str(sum(function["containers"] for function in app["functions"]) or "")


def _counted(containers: int) -> str:
    return {0: "no container", 1: "1 container"}.get(containers, f"{containers} containers")


def _urls(app: dict[str, Any]) -> str:
    return " ".join(function["url"] for function in app["functions"] if function["url"])


def ago(moment: float) -> str:
    """A time as people tell it: `5 min ago`; the date beyond a week."""
    seconds = max(0.0, time.time() - moment)
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "days")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return time.strftime("%Y-%m-%d", time.localtime(moment))
