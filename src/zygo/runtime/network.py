"""Outbound network for a revision's own network namespace: one slirp4netns process.

It is a user-mode TCP/IP stack: no privilege, no bridge; the host's loopback is closed to it, so that nothing which listens
on 127.0.0.1 (a database, a metadata proxy) can be reached from a container.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.errors import ContainerError
from zygo.runtime.channel import LineReader, watch_exit

if TYPE_CHECKING:
    from collections.abc import Callable

READY_SECONDS = 10.0
"""slirp4netns is up in 11 ms on an idle machine; this is for one that is swapping."""


class Uplink:
    """The slirp4netns of one network namespace.

    Holds a child process, its pidfd, and the pipe whose closing ends it (`--exit-fd`), so it cannot outlive the server.
    `words` are the last lines that it printed; `age` the seconds since it was started.
    """

    def __init__(self, process: subprocess.Popen[bytes], exit_fd: int, on_end: Callable[[], None]) -> None:
        self.words: list[str] = []
        self._process = process
        self._exit_fd: int | None = exit_fd
        self._pidfd = os.pidfd_open(process.pid)
        self._began = time.monotonic()
        self._on_end = on_end
        watch_exit(self._pidfd, self._ended)

    @classmethod
    async def attach(cls, slirp: str, pid: int, on_end: Callable[[], None]) -> Uplink:
        """Give the namespaces of process `pid` an interface; `on_end` is called when it ends without `close`.

        Raises ContainerError with slirp4netns's own words.
        """
        ready_read, ready_write = os.pipe()
        exit_read, exit_write = os.pipe()
        err_read, err_write = os.pipe()
        command = [slirp, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-seccomp"]
        command += [f"--ready-fd={ready_write}", f"--exit-fd={exit_read}", str(pid), "tap0"]
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork and an exec, on the thread that must do it
                command,
                pass_fds=(ready_write, exit_read),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err_write,
                start_new_session=True,
            )
        finally:
            for fd in (ready_write, exit_read, err_write):
                os.close(fd)
        uplink = cls(process, exit_write, on_end)
        # Read to its end, or one that has much to say would wait for a reader.
        LineReader(err_read, uplink._say)
        try:
            said = await _read_some(ready_read, READY_SECONDS)
        except TimeoutError:
            said = b""
        finally:
            os.close(ready_read)
        if said != b"1":
            await uplink.close()
            raise ContainerError(f"slirp4netns did not start: {' '.join(uplink.words) or 'no answer'}")
        return uplink

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def _say(self, line: str) -> None:
        self.words.append(line.strip())
        del self.words[:-3]

    def _ended(self) -> None:
        if self._exit_fd is not None:
            self._on_end()

    async def close(self) -> None:
        """End the process and reap it. May be called twice."""
        if self._exit_fd is not None:
            os.close(self._exit_fd)
            self._exit_fd = None
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)


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
