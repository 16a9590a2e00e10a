"""`zygo server attach`: what a command on another machine runs here through ssh, see sdk/ssh.py.

It starts the server unless one runs, prints one line that says where its sockets are, and ends with its input. It never
replaces a server: whoever looks after this machine decides when it is upgraded.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from zygo import errors
from zygo.program.place import own
from zygo.sdk import launch
from zygo.sdk.ssh import MARK
from zygo.version import version


def run() -> int:
    """Print the line and stay; the exit code."""
    try:
        place = own()
        status = asyncio.run(_connect(place))
        said = {
            "version": status.get("version", version()),
            "control": str(place.socket),
            "calls": str(place.socket.with_name("calls.sock")),
        }
        code = 0
    except errors.Error as error:
        said, code = {"error": errors.to_json(error)}, 1
    sys.stdout.write(f"{MARK}{json.dumps(said)}\n")
    sys.stdout.flush()
    if code == 0:
        while os.read(sys.stdin.fileno(), 4096):
            pass
    return code


async def _connect(place: launch.Place) -> dict[str, object]:
    async with await launch.connect(place, replace=False) as client:
        return await client.status()
