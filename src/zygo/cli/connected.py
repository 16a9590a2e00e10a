"""A command that asks the server something: connect, say it, disconnect."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from zygo.cli import output as printing
from zygo.program.place import place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from zygo.cli.output import Output
    from zygo.sdk.client import Client


def run(command: Callable[[Client, Output], Coroutine[Any, Any, None]]) -> None:
    """`command` with a client of the server, which is started when it is this machine's and none runs. Raises what it raises."""
    from zygo.sdk import launch

    async def connected() -> None:
        out = printing.make(sys.stdout, sys.stderr)
        async with await launch.connect(place(), say=out.hint) as client:
            await command(client, out)

    asyncio.run(connected())
