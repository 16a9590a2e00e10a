"""The server's end of a control socket: messages with descriptors, on the event loop.

What arrives is untrusted. A message that cannot be read ends the channel, as if the other side had closed it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from zygo import wire

_BATCH = 32

Listener = Callable[[dict[str, Any], list[int]], None]


class Channel:
    """One SOCK_SEQPACKET socket.

    Arguments:
        sock: our end; owned, closed by `close`.
        on_message: called with each message and its descriptors, which it owns from then on.
        on_end: called once when the other side is gone.
    """

    def __init__(self, sock: socket.socket, on_message: Listener, on_end: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(sock, self._readable)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """(ours, theirs): theirs is to be passed on and closed."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        """Send at once. False when the other side is gone or does not read, which is the same to us."""
        if not self._open:
            return False
        try:
            wire.send(self._sock, message, list(fds))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close our end; `on_end` is not called. May be called twice."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        # A sandbox that sends without end must not keep the loop from everything else: the rest is read in the next turn.
        for _ in range(_BATCH):
            if not self._open:
                return
            try:
                message, fds = wire.receive(self._sock)
                if message is not None:
                    self._on_message(message, fds)
                    continue
            except BlockingIOError:
                return
            except (OSError, ValueError, TypeError, AttributeError):
                pass  # not a message, or one whose values are not what they must be
            self.close()
            self._on_end()
            return


class LineReader:
    """Reads a pipe and calls `on_line` with each line of text, at most 64 KiB long, until the last writer is gone."""

    LIMIT = 64 * 1024
    PATIENCE = 0.5
    """Seconds after which the beginning of a line is shown as one: a prompt, a progress bar, a last word."""

    def __init__(self, fd: int, on_line: Callable[[str], None], on_end: Callable[[], None] = lambda: None) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._on_line = on_line
        self._on_end = on_end
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, self.LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self.LIMIT:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))
        if self._timer is not None and (lines or not self._rest):
            self._timer.cancel()
            self._timer = None
        if self._rest and self._timer is None and self._open:
            self._timer = self._loop.call_later(self.PATIENCE, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        self._timer = None
        rest, self._rest = self._rest, b""
        if rest:
            self._on_line(rest.decode("utf-8", "replace"))

    def close(self) -> None:
        """Stop reading; what came without a newline is a line. May be called twice."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            if self._timer is not None:
                self._timer.cancel()
            self._give_up_waiting()
            self._on_end()


def watch_exit(pidfd: int, on_exit: Callable[[], None]) -> None:
    """Call `on_exit` once when the process behind `pidfd` is gone; the descriptor stays the caller's."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(pidfd)
        on_exit()

    loop.add_reader(pidfd, gone)


def host_pid(pidfd: int) -> int:
    """The pid by which this process sees the one behind `pidfd`; -1 when it is gone or out of sight."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            for line in file:
                if line.startswith("Pid:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return -1
