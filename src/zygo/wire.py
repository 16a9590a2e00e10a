"""Messages between the server and the processes inside a sandbox: JSON datagrams with file descriptors.

Both ends use a SOCK_SEQPACKET socket pair, so a message is whole or absent, in order, and arrives with its descriptors.
What comes from a sandbox is untrusted: the reader checks type and size, and closes descriptors that it did not expect.
Runs on Python 3.9 and later; standard library only.

server -> image zygote      preload {modules}; revision {id, ...} + [control, stdout, stderr, cgroup...];
image zygote -> server      up {python, pid}; preloaded {modules, failed}; revision {id, pid} + [pidfd]; exited {id, status}
server -> revision zygote   start {id, function} + [listener, control, stdout, stderr, cgroup...]
revision zygote -> server   loaded {...} | failed {traceback, ...}; started {id, pid} + [pidfd]; exited {id, status}
container -> server         ready {} | failed {traceback}
server -> container         (closing the control socket or SIGTERM means: stop)
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any

MAX_MESSAGE = 192 * 1024
"""Bytes. The kernel's default limit of a socket buffer (net.core.wmem_max, 212992) less its bookkeeping."""

MAX_FDS = 16
_FD_SIZE = array.array("i").itemsize


class PeerGoneError(ConnectionError):
    """The other end of the control socket is gone: there is nobody to say it to, and nothing left to do."""


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] | list[int] = ()) -> None:
    """Send one message with descriptors.

    Raises ValueError when it is too large, PeerGoneError when the other end is gone, OSError (BlockingIOError) when it cannot be
    sent now.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"message {message.get('type')!r} has {len(data)} bytes; at most {MAX_MESSAGE} are allowed")
    try:
        if fds:
            sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            sock.sendmsg([data])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerGoneError(error.errno, "the other end of the control socket is gone") from None


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors, which the caller now owns; (None, []) at the end of the stream.

    Raises ValueError on anything that is not a JSON object (its descriptors are closed), BlockingIOError when the
    socket does not block and nothing is there.
    """
    try:
        data, ancillary, flags, _ = _recv(sock)
    except ConnectionResetError:
        # Said once, when the other end left messages of ours unread. Its own last words are still in the queue behind it.
        try:
            data, ancillary, flags, _ = _recv(sock)
        except ConnectionResetError:
            return None, []
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % _FD_SIZE])
            fds.extend(received)
    if not data:
        _close(fds)
        return None, []
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("message was truncated")
        message = json.loads(data)
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ValueError("message is not an object with a type")
    except (ValueError, RecursionError) as error:
        _close(fds)
        raise ValueError(str(error)) from None
    return message, fds


def _recv(sock: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(
        MAX_MESSAGE + 1024, socket.CMSG_SPACE(MAX_FDS * _FD_SIZE), getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    )


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
