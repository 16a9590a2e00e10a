"""The server's end of a control socket: messages with descriptors, on the event loop.

What arrives is untrusted. A message that cannot be read ends the channel, as if the other side had closed it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from zygo import wire
from zygo.runtime.flood import LINES_AT_ONCE, LINES_PER_SECOND, Allowance

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
    """Reads a pipe and calls `on_line` with each line of text until the last writer is gone.

    A line longer than LIMIT bytes comes in pieces of that size. A flood is cut: beyond LINES_PER_SECOND (after a burst) lines
    are only counted, and one line in their place says how many. Then, and beyond BYTES_PER_SECOND, the pipe is read every PAUSE
    only: who prints more than LIMIT in that time (6 MB/s) waits in its print. The loop is kept for BATCH lines at a time.
    """

    LIMIT = 64 * 1024
    BATCH = 128
    PAUSE = 0.01
    BYTES_PER_SECOND = 8 * 2**20
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
        self._waiting: deque[bytes] = deque()
        self._allowance = Allowance(LINES_PER_SECOND, LINES_AT_ONCE)
        self._bytes = Allowance(self.BYTES_PER_SECOND, 4 * self.BYTES_PER_SECOND)
        self._flood = False
        self._left_out = 0
        self._flood_ends: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        if self._waiting:  # `_deliver` is on its way, and must not be overtaken
            return
        try:
            data = os.read(self._fd, self.LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        ended = self._take(data)
        if self._flood or self._bytes.take(len(data), self._loop.time()) < len(data):
            self._loop.remove_reader(self._fd)
            self._loop.call_later(self.PAUSE, self._resume)
        if self._timer is not None and (ended or not self._rest):
            self._timer.cancel()
            self._timer = None
        if self._rest and self._timer is None and self._open:
            self._timer = self._loop.call_later(self.PATIENCE, self._give_up_waiting)
        self._deliver()

    def _take(self, data: bytes) -> int:
        """Put the lines that `data` ends into `_waiting`, or count those that are too many; how many there were."""
        data = self._rest + data
        ended = data.count(b"\n")
        granted = self._allowance.take(ended, self._loop.time()) if ended else 0
        if granted and self._left_out:
            self._tell_left_out()
        *lines, rest = data.split(b"\n", granted)
        for line in lines:
            self._waiting.extend(_pieces(line, self.LIMIT))
        self._flood = granted < ended
        if self._flood:
            self._left_out += ended - granted
            rest = rest[rest.rindex(b"\n") + 1 :]
            if self._flood_ends is None:
                self._flood_ends = self._loop.call_later(1.0, self._flood_ended)
        *pieces, self._rest = _pieces(rest, self.LIMIT)
        self._waiting.extend(pieces)
        return ended

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._fd, self._readable)

    def _deliver(self) -> None:
        for _ in range(min(self.BATCH, len(self._waiting))):
            self._on_line(self._waiting.popleft().decode("utf-8", "replace"))
        if self._waiting:
            self._loop.call_soon(self._deliver)

    def _tell_left_out(self) -> None:
        number, self._left_out = self._left_out, 0
        self._waiting.append(
            f"[{number:,} lines are left out here: more than {LINES_PER_SECOND:,} in a second]".encode()
        )

    def _flood_ended(self) -> None:
        self._flood_ends = None
        if self._left_out:
            self._tell_left_out()
            self._deliver()

    def _give_up_waiting(self) -> None:
        self._timer = None
        rest, self._rest = self._rest, b""
        if rest:
            self._waiting.append(rest)
            self._deliver()

    def close(self) -> None:
        """Stop reading; what came without a newline is a line. May be called twice."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            for timer in (self._timer, self._flood_ends):
                if timer is not None:
                    timer.cancel()
            if self._left_out:
                self._tell_left_out()
            self._give_up_waiting()
            while self._waiting:
                self._on_line(self._waiting.popleft().decode("utf-8", "replace"))
            self._on_end()


def _pieces(line: bytes, size: int) -> list[bytes]:
    """`line` in pieces of at most `size` bytes; one, perhaps empty, at least."""
    return [line[at : at + size] for at in range(0, len(line), size)] or [line]


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
