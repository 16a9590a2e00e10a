"""`zygo profile`: names for servers, so that commands find them without an address and a token each time."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from zygo import errors
from zygo.cli import output as printing
from zygo.sdk import profiles, where

app = typer.Typer(help="Name servers on other machines and choose the one that is used.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the profile.")]


@app.command()
def create(
    name: Name,
    at: Annotated[
        str,
        typer.Option("--server", metavar="ADDRESS", help="ssh://user@host, https://host, or local for this machine."),
    ],
    token: Annotated[
        str, typer.Option("--token", help="For https; - reads it from stdin, so that it is in no shell's history.")
    ] = "",
    environment: Annotated[
        str, typer.Option("-e", "--env", metavar="NAME", help="The environment there, unless a command names one.")
    ] = "",
    activate: Annotated[bool, typer.Option("--activate", help="Use it from now on.")] = False,
) -> None:
    """Name a server, or change what a name stands for.

    Examples: zygo profile create prod --server ssh://me@apps.example.com --activate
    """
    if not name.isprintable() or not name.strip() or len(name) > 63:
        raise errors.InvalidError(f"{name!r} is not a name of a profile.")
    if token == "-":
        token = sys.stdin.readline().strip()
    if at != where.LOCAL:
        where.parse(at, token or os.environ.get("ZYGO_TOKEN", ""))
    found, active = profiles.load()
    profiles.save({**found, name: profiles.Profile(name, at, token, environment)}, name if activate else active)
    out = printing.make(sys.stdout, sys.stderr)
    out.success(f"The profile {name} stands for {at}{' and is used from now on' if activate else ''}.")


@app.command()
def activate(name: Name) -> None:
    """Use a profile from now on, in every terminal."""
    profiles.get(name)
    profiles.save(profiles.load()[0], name)
    printing.make(sys.stdout, sys.stderr).success(f"The profile {name} is used from now on.")


@app.command()
def deactivate() -> None:
    """Use this machine's own server again."""
    profiles.save(profiles.load()[0], "")
    printing.make(sys.stdout, sys.stderr).success("This machine's own server is used from now on.")


@app.command()
def current(as_json: AsJson = False) -> None:
    """Show which server commands use here and now, and why."""
    out = printing.make(sys.stdout, sys.stderr)
    explicit = os.environ.get("ZYGO_SERVER", "")
    profile = None if explicit else profiles.active()
    address = explicit or (profile.server if profile else where.LOCAL)
    reason = "--server or ZYGO_SERVER" if explicit else f"profile {profile.name}" if profile else "no profile is active"
    if as_json:
        place = {"server": address, "profile": profile.name if profile else None, "environment": where.environment()}
        out.line(json.dumps(place))
    else:
        named = where.environment()
        out.line(f"{address} ({reason}){f', environment {named}' if named else ''}")


@app.command("list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the profiles; a star marks the active one. Tokens are not shown."""
    out = printing.make(sys.stdout, sys.stderr)
    found, active = profiles.load()
    rows = [
        {
            "name": p.name,
            "server": p.server,
            "token": bool(p.token),
            "environment": p.environment,
            "active": p.name == active,
        }
        for _, p in sorted(found.items())
    ]
    if as_json:
        out.line(json.dumps({"profiles": rows}, indent=2))
    elif not rows:
        out.line("There is no profile. Make one with: zygo profile create NAME --server ADDRESS")
    else:
        out.table(
            ["", "Profile", "Server", "Token", "Environment"],
            [
                [
                    "*" if r["active"] else "",
                    str(r["name"]),
                    str(r["server"]),
                    "yes" if r["token"] else "",
                    str(r["environment"]),
                ]
                for r in rows
            ],
        )


@app.command()
def delete(name: Name) -> None:
    """Forget a profile, its token included."""
    profiles.get(name)
    found, active = profiles.load()
    del found[name]
    profiles.save(found, "" if active == name else active)
    printing.make(sys.stdout, sys.stderr).success(f"The profile {name} is forgotten.")
