"""The way to the server of this user, started or replaced where needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zygo.program.place import place
from zygo.sdk import distant, launch

if TYPE_CHECKING:
    from zygo.program.screen import Screen
    from zygo.sdk.client import Client


async def connect(screen: Screen) -> Client:
    """A client, to be closed by the caller; what the server warns of is shown. Raises what `launch.connect` does."""
    client = await launch.connect(place(), say=screen.hint)
    try:
        for text in distant.warnings(await client.status(), client):
            screen.warning(text)
    except BaseException:
        await client.aclose()
        raise
    return client
