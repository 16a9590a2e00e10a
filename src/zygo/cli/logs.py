"""`zygo app logs`: what an app printed and what zygo says of it, from the files that the server keeps, or as it comes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zygo import errors
from zygo.cli import output, report
from zygo.cli.arguments import Env  # noqa: TC001  typer looks at it
from zygo.program.place import place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zygo.cli.output import Output

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def logs(
    app: Annotated[str, typer.Argument(metavar="APP", help="Name of the app, deployed or served.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="From then on: 2h, 30m, or 2026-11-24T18:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to then.")] = None,
    tail: Annotated[
        int | None, typer.Option("-n", "--tail", min=0, help="How many of the last lines; 100 without a range.")
    ] = None,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Lines with this text, in any case.")] = "",
    function: Annotated[list[str] | None, typer.Option("--function", help="Lines of this function.")] = None,
    container: Annotated[str, typer.Option("--container", metavar="ID", help="Lines of this container.")] = "",
    source: Annotated[
        list[str] | None, typer.Option("-s", "--source", help="stdout, stderr, system or request; may be repeated.")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Show when each line was written.")] = False,
    show_container: Annotated[
        bool, typer.Option("--show-container-id", help="Show which container wrote each line.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each line as a JSON object.")] = False,
    env: Env = None,
) -> None:
    """Show the last lines of an app's log, then end; with -f go on with those to come.

    Examples: zygo app logs hello -f | zygo app logs hello --since 2h --search error
    """
    query: list[tuple[str, str]] = []
    now = time.time()
    for name, text in (("since", since), ("until", until)):
        if text is not None:
            if follow:
                raise typer.BadParameter(
                    "it excludes --follow, which begins with the last lines.", param_hint=f"--{name}"
                )
            query.append((name, repr(_when(name, text, now))))
    query += [("tail", str(tail))] if tail is not None else []
    query += [("search", search)] if search else []
    query += [("container", container)] if container else []
    query += [("function", name) for name in function or ()]
    query += [("stream", name) for name in source or ()]
    out = output.make(sys.stdout, sys.stderr, timestamps=timestamps)
    try:
        code = asyncio.run(_run(_Request(app, tuple(query), follow, as_json, show_container), out))
    except errors.Error as error:
        code = report.show(error, out)
    raise typer.Exit(code)


def seconds_of(text: str, now: float) -> float:
    """The moment that `text` names, in seconds since 1970. Raises ValueError.

    It is a duration before `now` such as `90s`, `2h` or `1d12h`, or a date and time in ISO form, local where it names no zone.
    """
    text = text.strip()
    if _DURATION.fullmatch(text):
        return now - sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    return datetime.fromisoformat(text).timestamp()


def _when(name: str, text: str, now: float) -> float:
    try:
        return seconds_of(text, now)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither a duration such as 90s, 30m, 2h or 1d, nor a time such as 2026-11-24T18:00.",
            param_hint=f"--{name}",
        ) from None


@dataclass(frozen=True)
class _Request:
    app: str
    query: tuple[tuple[str, str], ...]
    follow: bool
    as_json: bool
    show_container: bool


async def _run(request: _Request, out: Output) -> int:
    reading = asyncio.ensure_future(_read(request, out))
    loop = asyncio.get_running_loop()

    def end() -> None:
        reading.cancel()

    out.on_broken = end
    out.watch_reader(loop)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        await reading
    except asyncio.CancelledError:
        return 0
    return 0


async def _read(request: _Request, out: Output) -> None:
    from zygo.sdk import launch

    async with (
        await launch.connect(place(), say=out.warning) as client,
        client.app_logs(request.app, request.query, follow=request.follow) as found,
    ):
        head = await anext(found)
        if request.follow and not head.get("live"):
            out.warning(f"The app {head.get('app')!r} does not run; its lines follow when it does.")
        await _show(request, found, out)
    if request.follow:
        raise errors.ConnectionError("The server has ended.")


async def _show(request: _Request, found: AsyncIterator[dict[str, Any]], out: Output) -> None:
    async for line in found:
        if request.as_json:
            out.line(json.dumps(line, ensure_ascii=False))
        elif request.show_container and line.get("container"):
            out.log({**line, "function": f"{line.get('function') or 'zygo'} {line['container']}"})
        else:
            out.log(line)
