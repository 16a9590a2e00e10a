"""Outbound network for a revision's own network namespace: one slirp4netns process.

It is a user-mode TCP/IP stack: no privilege, no bridge; the host's loopback is closed to it, so that nothing which listens
on 127.0.0.1 (a database, a metadata proxy) can be reached from a container.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from zygo.errors import ContainerError

READY_SECONDS = 10.0
"""slirp4netns is up in 11 ms on an idle machine; this is for one that is swapping."""


class Uplink:
    """The slirp4netns of one network namespace.

    Holds a child process and the pipe whose closing ends it (`--exit-fd`), so it cannot outlive the server.
    """

    def __init__(self, process: subprocess.Popen[bytes], exit_fd: int) -> None:
        self._process = process
        self._exit_fd: int | None = exit_fd

    @classmethod
    async def attach(cls, slirp: str, pid: int) -> Uplink:
        """Give the namespaces of process `pid` an interface. Raises ContainerError with slirp4netns's own words."""
        ready_read, ready_write = os.pipe()
        exit_read, exit_write = os.pipe()
        command = [slirp, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-seccomp"]
        command += [f"--ready-fd={ready_write}", f"--exit-fd={exit_read}", str(pid), "tap0"]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=(ready_write, exit_read),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        finally:
            os.close(ready_write)
            os.close(exit_read)
        uplink = cls(process, exit_write)
        try:
            said = await _read_some(ready_read, READY_SECONDS)
        except TimeoutError:
            said = b""
        finally:
            os.close(ready_read)
        if said != b"1":
            await uplink.close()
            words = process.stderr.read().decode("utf-8", "replace").strip() if process.stderr else ""
            raise ContainerError(f"slirp4netns did not start: {words or 'no answer'}")
        return uplink

    async def close(self) -> None:
        """End the process and reap it. May be called twice."""
        if self._exit_fd is not None:
            os.close(self._exit_fd)
            self._exit_fd = None
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


async def _read_some(fd: int, seconds: float) -> bytes:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        if not done.done():
            done.set_result(os.read(fd, 16))

    loop.add_reader(fd, readable)
    try:
        return await asyncio.wait_for(done, seconds)
    finally:
        loop.remove_reader(fd)


def find_slirp() -> str | None:
    """Path of slirp4netns when it can be used by this user, which needs /dev/net/tun."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return None
    for directory in [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin"]:
        path = Path(directory, "slirp4netns")
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None
