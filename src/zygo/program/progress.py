"""What is shown while the server makes a revision: its events, and then the functions and how to call them."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

from zygo import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from zygo.program.screen import Screen
    from zygo.sdk.client import Client

LAST = ("published", "unchanged", "failed", "missing")
"""The kinds of event with which a revision's stream ends."""


async def follow(output: Screen, events: AsyncIterator[dict[str, Any]], *, verbose: bool) -> dict[str, Any]:
    """Show what happens; the last event. Raises ConnectionError when the server is gone before it."""
    async for event in events:
        kind = event.get("type")
        if kind in LAST:
            # To its end, which is on its way: then the connection to a server elsewhere serves the next request, too.
            with contextlib.suppress(errors.Error):
                async for _ in events:
                    pass
            return dict(event)
        if kind == "build" and (verbose or not _is_listing(str(event.get("line", "")))):
            output.build(str(event.get("step", "image")), str(event.get("line", "")))
        elif kind == "warning":
            output.warning(str(event.get("text", "")))
        elif kind == "step" and (verbose or not event.get("quiet")):
            output.hint(f"  {event.get('text', '')}")
    raise errors.ConnectionError("The server went away")


async def follow_all(
    output: Screen, opened: AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]], *, verbose: bool
) -> dict[str, Any]:
    """Open a revision's stream and `follow` it."""
    async with opened as events:
        return await follow(output, events, verbose=verbose)


async def change(
    output: Screen, client: Client, name: str, what: str, body: dict[str, Any], *, verbose: bool = False
) -> dict[str, Any]:
    """Ask for a change of the deployed app `name` (Client.change) and `follow` it."""
    try:
        async with client.change(name, what, body) as events:
            return await follow(output, events, verbose=verbose)
    except errors.ConnectionError as error:
        raise errors.ConnectionError(
            f"{str(error).rstrip('.')}. `zygo app history {name}` shows whether the change was made."
        ) from error


def where(event: dict[str, Any]) -> str:
    """Where the time of a publication went: ` (build 0.18 s, load 0.66 s)`."""
    parts = [f"{name} {float(value):.2f} s" for name, value in event.get("seconds", {}).items() if value]
    return f" ({', '.join(parts)})" if parts else ""


def show_function(output: Screen, function: dict[str, Any]) -> None:
    """The URL of a function, and a line to paste that calls it; of one without a URL its name."""
    name, url = str(function["name"]), str(function["url"])
    if not url:
        output.line(f"  {name}: called from Python with .remote()", "bold")
        return
    note = f"  ({function['note']})" if function.get("note") else ""
    note += "  🔑 asks for a proxy token" if function.get("protected") else ""
    output.line(f"  {name} => {url}{note}", "bold")
    also = function.get("hostname_url")
    if also and also != url:
        output.hint(f"    also {also}")
    for domain in function.get("custom_domains") or ():
        output.line(f"  Custom domain for {name} => {domain}", "bold")
    output.hint(f"    {curl(url, str(function.get('method') or 'GET'), str(function.get('sample') or ''))}")


def curl(url: str, method: str, sample: str) -> str:
    """A line to paste. `sample` is the rest of it: a path and query for the URL, options, or both in this order."""
    path, _, options = sample.partition(" ")
    if not path.startswith(("/", "?")):
        path, options = "", sample
    target = url.rstrip("/") + path if path.startswith("/") else url + path
    verb = [] if method in ("GET", "") or (method == "POST" and " -d " in f" {options} ") else ["-X", method]
    return " ".join(["curl", *verb, *([options] if options else []), shlex.quote(target)])


def reason(event: dict[str, Any]) -> str:
    """Why a publication failed, with the step that did."""
    step = f"{event['step']}: " if event.get("step") not in (None, "", "image") else ""
    return f"{step}{event.get('message') or 'the server says no reason'}"


def _is_listing(line: str) -> bool:
    """One of uv's lines of what changed in the environment, ` + idna==3.10`: sixty of them say no more than "Installed"."""
    return line.startswith((" + ", " - ", " ~ "))
