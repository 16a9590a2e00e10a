"""The server's end of a control socket: what comes from a sandbox is hostile until shown otherwise."""

from __future__ import annotations

import array
import asyncio
import os
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from zygo import wire
from zygo.errors import ContainerError
from zygo.runtime.channel import Channel, LineReader
from zygo.runtime.flood import LINES_AT_ONCE
from zygo.runtime.zygote import ContainerProcess, RevisionZygote, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SECONDS = 10.0


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def body() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        async with asyncio.timeout(SECONDS):
            await test()
        assert errors == []

    asyncio.run(body())


def test_a_flood_of_messages_does_not_keep_the_loop_from_everything_else() -> None:
    async def test() -> None:
        ours, theirs = Channel.pair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        other = loop.create_future()

        def fill() -> None:
            try:
                while True:
                    wire.send(theirs, {"type": "noise"})
            except BlockingIOError:
                pass

        def on_message(message: dict[str, Any], fds: list[int]) -> None:
            fill()  # the other side always has more
            if not other.done() and not pending:
                pending.append(loop.call_soon(other.set_result, None))

        pending: list[asyncio.Handle] = []
        channel = Channel(ours, on_message, lambda: None)
        fill()
        await other
        channel.close()
        theirs.close()

    run(test)


def test_what_cannot_be_read_ends_the_channel_once() -> None:
    async def test() -> None:
        ours, theirs = Channel.pair()
        ended = asyncio.Event()
        ends: list[int] = []

        def on_end() -> None:
            ends.append(1)
            ended.set()

        channel = Channel(ours, lambda message, fds: None, on_end)
        theirs.send(b"not json")
        theirs.send(b'{"type":"t"}')
        await ended.wait()
        assert ends == [1]
        assert not channel.send({"type": "t"})
        channel.close()
        theirs.close()

    run(test)


_HOSTILE: list[tuple[dict[str, Any], int]] = [
    ({"type": "started", "id": "c-1"}, 1),  # a descriptor that is no process
    ({"type": "started", "id": "c-1"}, 3),
    ({"type": "started"}, 0),
    ({"type": "exited", "id": "c-1", "status": "soon"}, 0),
    ({"type": "exited", "id": "c-1", "status": [1]}, 0),
    ({"type": "exited", "id": {"a": 1}, "status": 0}, 0),
    ({"type": "loaded", "modules": 5, "notes": 3}, 0),
    ({"type": "loaded", "modules": [["a"]], "unfit": "x"}, 0),
    ({"type": "failed", "traceback": {"a": 1}}, 0),
    ({"type": "revision", "id": 1}, 2),
    ({"type": "unheard of"}, 2),
]


@pytest.mark.parametrize(("message", "descriptors"), _HOSTILE, ids=[repr(m)[:60] for m, _ in _HOSTILE])
def test_a_lying_revision_zygote_harms_only_itself(message: dict[str, Any], descriptors: int) -> None:
    async def test() -> None:
        before = len(os.listdir("/proc/self/fd"))
        nothing = os.open(os.devnull, os.O_RDONLY)
        ours, theirs = Channel.pair()
        ended = asyncio.Event()
        zygote = RevisionZygote("r-1", lambda stream, line: None, ended.set)
        zygote._channel = Channel(ours, zygote._message, zygote._ended)
        container = ContainerProcess("c-1")
        zygote.fork(container, {"id": "c-1"}, [])
        container.passed()
        fds = array.array("i", [nothing] * descriptors)
        theirs.sendmsg([str(message).replace("'", '"').encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        theirs.close()
        await ended.wait()
        await container.exited
        await zygote.close()
        os.close(nothing)
        with pytest.raises(ContainerError):
            await container.ready
        assert len(os.listdir("/proc/self/fd")) == before

    run(test)


def test_one_that_is_stopped_before_its_pid_is_known_is_killed_when_it_is() -> None:
    async def test() -> None:
        container = ContainerProcess("c-1")
        stopping = asyncio.create_task(container.stop(30.0))
        await asyncio.sleep(0)
        process = await asyncio.create_subprocess_exec("sleep", "600")
        container.started(os.pidfd_open(process.pid))
        assert await process.wait() == -9
        container.exit_status(-9)
        assert await stopping == -9

    run(test)


def test_a_pipe_is_read_by_lines_and_what_has_no_end_is_cut() -> None:
    async def test() -> None:
        read, write = os.pipe()
        lines: list[str] = []
        ended = asyncio.Event()
        LineReader(read, lines.append, ended.set)
        os.write(write, b"one\ntwo \xff\nrest")
        os.close(write)
        await ended.wait()
        assert lines == ["one", "two \N{REPLACEMENT CHARACTER}", "rest"]

    run(test)


def test_a_line_without_an_end_is_bounded() -> None:
    async def test() -> None:
        read, write = os.pipe()
        lines: list[str] = []
        ended = asyncio.Event()
        LineReader(read, lines.append, ended.set)

        def flood() -> None:
            for _ in range(20):
                os.write(write, b"x" * 65536)
            os.close(write)

        await asyncio.to_thread(flood)
        await ended.wait()
        assert sum(map(len, lines)) == 20 * 65536
        assert max(map(len, lines)) == LineReader.LIMIT

    run(test)


def test_listening_replaces_a_socket_that_a_killed_server_left(tmp_path: Path) -> None:
    path = str(tmp_path / "c.s")
    with listen(path), listen(path) as second, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with second.accept()[0]:
            pass


def test_a_flood_of_lines_is_counted_and_the_count_stands_where_they_would() -> None:
    async def test() -> None:
        read, write = os.pipe()
        lines: list[str] = []
        ended = asyncio.Event()
        LineReader(read, lines.append, ended.set)
        total = 100_000

        def flood() -> None:
            with open(write, "w") as file:
                file.writelines(f"{i}\n" for i in range(total))
                file.write("last")

        await asyncio.to_thread(flood)
        await ended.wait()
        told = [int(m[1].replace(",", "")) for line in lines if (m := _LEFT_OUT.fullmatch(line))]
        shown = [int(line) for line in lines if line.isdecimal()]
        assert told, lines[-3:]
        assert sum(told) + len(shown) == total
        assert shown[:LINES_AT_ONCE] == list(range(LINES_AT_ONCE))
        assert shown == sorted(shown)
        assert lines[-1] == "last"

    run(test)


_LEFT_OUT = re.compile(r"\[([\d,]+) lines are left out here: more than 5,000 in a second\]")


def test_a_flood_that_ends_is_told_without_another_line() -> None:
    async def test() -> None:
        read, write = os.pipe()
        lines: list[str] = []
        told = asyncio.Event()

        def see(line: str) -> None:
            lines.append(line)
            if _LEFT_OUT.fullmatch(line):
                told.set()

        LineReader(read, see)
        await asyncio.to_thread(lambda: os.write(write, b"\n" * 30_000))
        await told.wait()
        assert lines[-1] == "[20,000 lines are left out here: more than 5,000 in a second]"
        assert len(lines) == LINES_AT_ONCE + 1
        os.close(write)

    run(test)
