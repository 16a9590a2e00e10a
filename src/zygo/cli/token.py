"""`zygo token`: tokens for commands and programs on other machines."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zygo.cli import connected, logs
from zygo.cli.apps import ago

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="Make and end tokens, for commands and programs on other machines.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the token: it stands in the history of what it changes.")
]


@app.command()
def create(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, call, deploy or admin; may be repeated. deploy unless given."),
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="IN", help="30d, 12h; else never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, once.

    Examples: zygo token create laptop | zygo token create ci --scope deploy --expires 90d | zygo token create shop --scope call
    """
    seconds = _duration("--expires", expires) if expires else None
    connected.run(lambda client, out: _create(client, out, name, scope or ["deploy"], seconds, as_json))


@app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens: what they may do, until when, and when they were last used."""
    connected.run(lambda client, out: _list(client, out, as_json))


@app.command()
def rotate(
    name: Name,
    overlap: Annotated[
        str | None, typer.Option("--overlap", metavar="TIME", help="How long the old one is good for, too: 1h, 2d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a token a new secret and show it, once; the old one is worth nothing from then on, or after the overlap."""
    seconds = _duration("--overlap", overlap) if overlap else 0.0
    connected.run(lambda client, out: _rotate(client, out, name, seconds, as_json))


@app.command()
def delete(name: Name, as_json: AsJson = False) -> None:
    """End a token: what it is doing is cut, and it is worth nothing from now on."""
    connected.run(lambda client, out: _delete(client, out, name, as_json))


def _duration(option: str, text: str) -> float:
    now = time.time()
    try:
        seconds = now - logs.seconds_of(text, now)
    except (ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 12h, 30d or 1w.", param_hint=option)
    return seconds


async def _create(
    client: Client, out: Output, name: str, scopes: list[str], expires_in: float | None, as_json: bool
) -> None:
    _show(out, await client.create_token(name, scopes, expires_in), as_json)


async def _rotate(client: Client, out: Output, name: str, overlap: float, as_json: bool) -> None:
    _show(out, await client.rotate_token(name, overlap), as_json)


def _show(out: Output, made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.line(json.dumps(made, indent=2))
        return
    out.line(made["token"])
    out.hint(f"That is the token {made['name']} ({', '.join(made['scopes'])}, {_until(made)}). It is not shown again.")


async def _list(client: Client, out: Output, as_json: bool) -> None:
    found = await client.tokens()
    if as_json:
        out.line(json.dumps({"tokens": found}, indent=2))
    elif not found:
        out.line("There is no token. Make one with: zygo token create NAME")
    else:
        rows = [
            [
                t["name"],
                " ".join(t["scopes"]),
                ago(t["created_at"]),
                _until(t),
                ago(t["last_used_at"]) if t["last_used_at"] else "never",
            ]
            for t in found
        ]
        out.table(["Token", "Scopes", "Made", "Expires", "Last used"], rows)


async def _delete(client: Client, out: Output, name: str, as_json: bool) -> None:
    gone = await client.delete_token(name)
    if as_json:
        out.line(json.dumps(gone, indent=2))
    else:
        out.success(f"The token {name} is worth nothing any more.")


def _until(token: dict[str, Any]) -> str:
    at = token["expires_at"]
    if at is None:
        return "never expires"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
    return f"until {day}" if at > time.time() else f"expired {day}"
