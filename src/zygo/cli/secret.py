"""`zygo secret`: named values for containers, which the server keeps sealed. No command prints one."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003  typer looks at it
from typing import TYPE_CHECKING, Annotated

import typer

from zygo import errors
from zygo.cli import connected
from zygo.cli.apps import ago, confirm
from zygo.cli.arguments import Env  # noqa: TC001  typer looks at it

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="Keep values that programs need and code must not hold.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the secret.")]


@app.command()
def create(
    name: Name,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Its values; KEY=- reads one from stdin, so that it is in no history."
        ),
    ] = None,
    from_dotenv: Annotated[
        Path | None, typer.Option("--from-dotenv", metavar="PATH", help="Read values from a .env file.")
    ] = None,
    from_json: Annotated[
        Path | None, typer.Option("--from-json", metavar="PATH", help="Read values from a file with a JSON object.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    env: Env = None,
    as_json: AsJson = False,
) -> None:
    """Make a secret.

    Examples: zygo secret create database PASSWORD=- | zygo secret create shop --from-dotenv .env
    """
    found: dict[str, str] = {}
    if from_dotenv is not None:
        found |= _dotenv(from_dotenv)
    if from_json is not None:
        found |= _json(from_json)
    found |= _words(values or [])
    if not found:
        raise errors.InvalidError(f"A secret needs values: zygo secret create {name} KEY=VALUE, or --from-dotenv PATH.")
    connected.run(lambda client, out: _create(client, out, (name, found, force), as_json))


@app.command("list")
def list_secrets(env: Env = None, as_json: AsJson = False) -> None:
    """List the secrets, and the names of their values."""
    connected.run(lambda client, out: _list(client, out, as_json))


@app.command()
def delete(
    name: Name,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="It is no error when there is none.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    env: Env = None,
    as_json: AsJson = False,
) -> None:
    """Delete a secret. Containers that run keep its values; none that needs it starts any more."""
    if not yes:
        confirm(
            f"Delete the secret {name}? Apps that use it cannot start new containers after a restart of the server."
        )
    connected.run(lambda client, out: _delete(client, out, name, allow_missing, as_json))


async def _create(client: Client, out: Output, secret: tuple[str, dict[str, str], bool], as_json: bool) -> None:
    name, values, force = secret
    made = await client.create_secret(name, values, force=force)
    if as_json:
        out.line(json.dumps(made, indent=2))
        return
    out.success(f"Made the secret {name} with {', '.join(made['keys'])}.")
    out.hint(f"Use it with: @app.function(secrets=[zygo.Secret.from_name({name!r})])")


async def _list(client: Client, out: Output, as_json: bool) -> None:
    found = await client.secrets()
    if as_json:
        out.line(json.dumps(found, indent=2))
    elif not found:
        out.line("There is no secret. Make one with: zygo secret create NAME KEY=VALUE")
    else:
        rows = [[s["name"], " ".join(s["keys"]), ago(s["created_at"]), ago(s["updated_at"])] for s in found]
        out.table(["Secret", "Values", "Made", "Changed"], rows)


async def _delete(client: Client, out: Output, name: str, allow_missing: bool, as_json: bool) -> None:
    try:
        gone = await client.delete_secret(name)
    except errors.NotFoundError:
        if not allow_missing:
            raise
        gone = {"name": name}
    if as_json:
        out.line(json.dumps(gone, indent=2))
    else:
        out.success(f"Deleted the secret {name}.")


def _words(words: list[str]) -> dict[str, str]:
    """The values of `KEY=VALUE`... Raises InvalidError, which shows no value."""
    found: dict[str, str] = {}
    asked = False
    for number, word in enumerate(words, start=1):
        key, equals, value = word.partition("=")
        if not equals or not key:
            # The word itself may be the value.
            raise errors.InvalidError(f"Value {number} is not KEY=VALUE.")
        if value == "-":
            if asked:
                raise errors.InvalidError(f"Only one value can come from stdin, and {key} would be the second.")
            asked = True
            value = _stdin(key)
        found[key] = value
    return found


def _stdin(key: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"{key}", hide_input=True))
    return sys.stdin.read().removesuffix("\n")


def _dotenv(path: Path) -> dict[str, str]:
    from zygo.sdk.secret import parse_dotenv

    return parse_dotenv(_read(path, "--from-dotenv"))


def _json(path: Path) -> dict[str, str]:
    text = _read(path, "--from-json")
    try:
        found = json.loads(text)
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its text"
        raise errors.InvalidError(f"--from-json: {path} is not JSON ({where}).") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise errors.InvalidError(f'--from-json: {path} does not hold an object of texts, such as {{"KEY": "value"}}.')
    return found


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.InvalidError(f"{option}: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise errors.InvalidError(f"{option}: {path} is not text in UTF-8.") from None
