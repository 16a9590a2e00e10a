"""`zygo environment`: spaces of names for apps and secrets, each with hostnames of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from zygo import errors
from zygo.cli import connected
from zygo.cli.apps import ago, confirm
from zygo.sdk import where

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="Make and change environments, and list them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the environment.")]


@app.command("list")
def list_environments(as_json: AsJson = False) -> None:
    """List the environments; a star marks the one that commands use here and now."""
    connected.run(lambda client, out: _list(client, out, as_json))


@app.command()
def create(
    name: Name,
    web_suffix: Annotated[
        str | None,
        typer.Option(
            "--web-suffix", metavar="TEXT", help="What its hostnames have after the workspace; else its name."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an environment.

    Examples: zygo environment create staging | zygo environment create ada-at-work --web-suffix ada
    """
    connected.run(lambda client, out: _create(client, out, name, web_suffix, as_json))


@app.command()
def update(
    name: Name,
    set_name: Annotated[str | None, typer.Option("--set-name", metavar="NAME", help="Its new name.")] = None,
    web_suffix: Annotated[
        str | None, typer.Option("--set-web-suffix", metavar="TEXT", help='Its new web suffix; "" for none.')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give an environment another name or web suffix; its apps get new containers, which know them."""
    if set_name is None and web_suffix is None:
        raise errors.InvalidError("Say what to change: --set-name NAME or --set-web-suffix TEXT.")
    connected.run(lambda client, out: _update(client, out, name, (set_name, web_suffix), as_json))


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete an environment with its secrets, logs and history; the apps in it are stopped."""
    connected.run(lambda client, out: _delete(client, out, name, yes, as_json))


async def _list(client: Client, out: Output, as_json: bool) -> None:
    found = await client.environments()
    current = where.environment()
    for environment in found:
        environment["current"] = environment["name"] == current if current else environment["default"]
    if as_json:
        out.line(json.dumps(found, indent=2))
        return
    rows = [
        ["*" if e["current"] else "", e["name"], e["web_suffix"], ", ".join(e["apps"]), ago(e["created_at"])]
        for e in found
    ]
    out.table(["", "Environment", "Web suffix", "Apps", "Made"], rows)


async def _create(client: Client, out: Output, name: str, web_suffix: str | None, as_json: bool) -> None:
    made = await client.create_environment(name, web_suffix)
    if as_json:
        out.line(json.dumps(made, indent=2))
        return
    out.success(f"Made the environment {name}.")
    out.hint(f"Deploy into it with: zygo deploy FILE --env {name}")


async def _update(client: Client, out: Output, name: str, wanted: tuple[str | None, str | None], as_json: bool) -> None:
    with out.working(f"Changing {name}..."):
        changed = await client.update_environment(name, *wanted)
    if as_json:
        out.line(json.dumps(changed, indent=2))
    else:
        suffix = f", web suffix {changed['web_suffix']}" if changed["web_suffix"] else ", no web suffix"
        out.success(f"The environment is {changed['name']} now{suffix}.")
    for app_name, reason in changed["failed"].items():
        out.warning(f"{app_name} goes on as it was until its next deploy: {reason}")


async def _delete(client: Client, out: Output, name: str, yes: bool, as_json: bool) -> None:
    found = next((e for e in await client.environments() if e["name"] == name), None)
    if found is not None and not yes:
        apps = f", and stop {', '.join(found['apps'])}" if found["apps"] else ""
        confirm(f"Delete the environment {name} with its secrets{apps}?")
    with out.working(f"Deleting {name}..."):
        gone = await client.delete_environment(name, stop_apps=True)
    if as_json:
        out.line(json.dumps(gone, indent=2))
    else:
        stopped = f"; stopped {', '.join(gone['stopped'])}" if gone["stopped"] else ""
        out.success(f"Deleted the environment {name}{stopped}.")
