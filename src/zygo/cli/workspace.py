"""`zygo workspace`: what belongs to the whole server and to no app of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from zygo.cli import connected
from zygo.cli.apps import ago

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="What belongs to the whole server.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens for endpoints with requires_proxy_auth=True.", no_args_is_help=True)
app.add_typer(tokens, name="proxy-tokens")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@tokens.command()
def create(as_json: AsJson = False) -> None:
    """Make a token. Its secret is shown now and never again."""
    connected.run(lambda client, out: _create(client, out, as_json))


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens, without their secrets."""
    connected.run(lambda client, out: _list(client, out, as_json))


@tokens.command()
def delete(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The token's id: wk-...")], as_json: AsJson = False
) -> None:
    """Delete a token: who shows it is refused from now on."""
    connected.run(lambda client, out: _delete(client, out, identifier, as_json))


async def _create(client: Client, out: Output, as_json: bool) -> None:
    made = await client.create_proxy_token()
    if as_json:
        out.line(json.dumps(made, indent=2))
        return
    out.line(f"Zygo-Key: {made['id']}")
    out.line(f"Zygo-Secret: {made['secret']}")
    out.hint("The secret is not shown again. Callers send both headers, or: Authorization: Bearer <key>.<secret>")


async def _list(client: Client, out: Output, as_json: bool) -> None:
    found = await client.proxy_tokens()
    if as_json:
        out.line(json.dumps(found, indent=2))
    elif found:
        out.table(["Token", "Created"], [[token["id"], ago(token["created_at"])] for token in found])
    else:
        out.line("There are no proxy tokens. Make one with: zygo workspace proxy-tokens create")


async def _delete(client: Client, out: Output, identifier: str, as_json: bool) -> None:
    await client.delete_proxy_token(identifier)
    if as_json:
        out.line(json.dumps({"id": identifier}))
    else:
        out.success(f"Deleted {identifier}; who shows it is refused from now on.")
