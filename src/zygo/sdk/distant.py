"""Finds a server on another machine. It is used as it is: whoever upgrades it decides when.

ssh    a tunnel, which starts the server there when none runs
https  the server must run, and know the token
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from zygo import errors
from zygo.sdk import ssh
from zygo.sdk.client import Client
from zygo.version import version

if TYPE_CHECKING:
    from zygo.sdk.where import Remote

STATUS_SECONDS = 15.0


def client_of(remote: Remote) -> Client:
    """A client of the server, which connects with its first request. For ssh `reconnect` makes the tunnel."""
    if remote.scheme != "ssh":
        return Client("", remote=remote)
    held: list[ssh.Tunnel] = []

    async def prepare() -> None:
        tunnel = await asyncio.to_thread(ssh.tunnel, remote)
        held[:] = [tunnel]
        client.socket = tunnel.control

    client = Client("", remote=remote, prepare=prepare)
    return client


async def connect(remote: Remote) -> Client:
    """A client of a server that answers and that this version can work with. The caller closes it.

    Raises ConnectionError, AuthError, PermissionDeniedError, VersionError.
    """
    client = client_of(remote)
    try:
        await client.reconnect()
        try:
            status = await client.status(seconds=STATUS_SECONDS)
        except errors.ConnectionError as error:
            if remote.scheme != "ssh":
                raise
            said = (await asyncio.to_thread(ssh.tunnel, remote)).said()
            refused = f" ssh says: {said}. sshd there must allow AllowStreamLocalForwarding." if said else ""
            raise errors.ConnectionError(f"The server on {remote.name} does not answer.{refused}") from error
        check(status, remote)
    except BaseException:
        await client.aclose()
        raise
    return client


def warnings(status: dict[str, Any], client: Client) -> list[str]:
    """What the server behind `client` warns of, and what follows from its being elsewhere."""
    found = [str(text) for text in status.get("warnings", [])]
    if client.remote is not None and status.get("domain") == "localhost":
        found.append(
            f"The domain of {client.remote.name} is localhost: the URLs are that machine's own, and lead nowhere from here. "
            "Start its server with ZYGO_DOMAIN and ZYGO_HOST."
        )
    return found


def check(status: dict[str, Any], remote: Remote) -> None:
    """Raises VersionError unless this command can work with the server that says this of itself."""
    theirs, ours = str(status.get("version", "0")), version()
    if release(theirs) == release(ours):
        return
    older = release(theirs) < release(ours)
    mend = f"Upgrade zygo on {remote.host}, and start its server anew" if older else "Upgrade zygo on this machine"
    back = f"pip install 'zygo=={theirs}'"
    raise errors.VersionError(
        f"This command is zygo {ours}, the server at {remote.name} is zygo {theirs}, and these do not work together: the "
        f"first two numbers of their versions must be the same. {mend}; or use the server's version here: {back}"
    )


def release(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split("+")[0].split(".")]
    return tuple([*numbers, 0, 0][:2])
