"""The loop of both zygotes: wait for a message or a child's end, act, and never leave a zombie.

A zygote has one thread and blocks in poll(2); nothing here computes. A handler may fork: in the child it never returns.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Any, Callable

from zygo import wire

if TYPE_CHECKING:
    import socket

Handler = Callable[["dict[str, Any]", "list[int]"], None]


class ForkServer:
    """Serves one control socket.

    Arguments:
        control: SOCK_SEQPACKET socket to the server. When it ends, so does this process.
        handlers: message type -> function of the message and its descriptors, which it owns.
        on_child: called with (pid, wait status) of each child that was reaped.
        reap_all: reap every child, or only those in `children` (the user's module may have started others).
    """

    def __init__(
        self,
        control: socket.socket,
        handlers: dict[str, Handler],
        on_child: Callable[[int, int], None],
        reap_all: bool = False,
    ) -> None:
        self.control = control
        self.children: set[int] = set()
        self._handlers = handlers
        self._on_child = on_child
        self._reap_all = reap_all
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def serve(self) -> None:
        """Serve until the control socket ends."""
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._reap()  # what ended before the handler was there has sent its signal already
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == self._wake_read:
                    _drain(self._wake_read)
                    try:
                        self._reap()
                    except wire.PeerGoneError:
                        return
                elif not self._receive():
                    return

    def forget_in_child(self) -> None:
        """In a forked child: give up what belongs to the parent's loop."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake_read)
        os.close(self._wake_write)
        self.control.close()

    def _receive(self) -> bool:
        try:
            message, fds = wire.receive(self.control)
        except (ValueError, ConnectionError):
            return False
        if message is None:
            return False
        handler = self._handlers.get(message["type"])
        if handler is None:
            for fd in fds:
                os.close(fd)
        else:
            try:
                handler(message, fds)
            except wire.PeerGoneError:
                return False
        return True

    def _reap(self) -> None:
        for pid in [-1] if self._reap_all else list(self.children):
            while True:
                try:
                    done, status = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    self.children.discard(pid)
                    break
                if not done:
                    break
                self.children.discard(done)
                self._on_child(done, status)
                if pid != -1:
                    break


def _ignore(signum: int, frame: Any) -> None:
    """Only there so that the wake-up descriptor is written to."""


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass
