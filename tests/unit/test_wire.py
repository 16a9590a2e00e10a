"""Messages with descriptors: whole or absent, and nothing that a hostile sender can make the reader keep."""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zygo import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_message_arrives_whole_in_order_and_with_its_descriptors(pair: Pair) -> None:
    ours, theirs = pair
    read, write = os.pipe()
    wire.send(ours, {"type": "one", "n": 1}, [write])
    wire.send(ours, {"type": "two", "text": "ä" * 1000})
    os.close(write)
    message, fds = wire.receive(theirs)
    assert message == {"type": "one", "n": 1}
    [copy] = fds
    assert not os.get_inheritable(copy)
    os.write(copy, b"x")
    assert os.read(read, 1) == b"x"
    os.close(copy)
    os.close(read)
    assert wire.receive(theirs) == ({"type": "two", "text": "ä" * 1000}, [])


def test_the_largest_message_fits_and_a_larger_one_is_refused_before_it_is_sent(pair: Pair) -> None:
    ours, theirs = pair
    room = wire.MAX_MESSAGE - len('{"type":"t","x":""}')
    wire.send(ours, {"type": "t", "x": "y" * room})
    message, _ = wire.receive(theirs)
    assert message is not None
    assert len(message["x"]) == room
    with pytest.raises(ValueError, match="at most"):
        wire.send(ours, {"type": "t", "x": "y" * (room + 1)})


def test_the_end_is_told_from_a_message(pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    assert wire.receive(theirs) == (None, [])


def test_nothing_there_on_a_socket_that_does_not_block(pair: Pair) -> None:
    _, theirs = pair
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        wire.receive(theirs)


@pytest.mark.parametrize(
    "data", [b"x", b"[]", b"{}", b'{"type": 1}', b"null", b'{"type": "a"', b"\xff", b"[" * 100_000], ids=repr
)
def test_what_is_not_a_message_is_refused_and_its_descriptors_are_closed(pair: Pair, data: bytes) -> None:
    ours, theirs = pair
    before = open_files()
    ours.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    with pytest.raises(ValueError, match=r"\S"):
        wire.receive(theirs)
    assert open_files() == before


def test_more_descriptors_than_are_read_are_refused_and_none_is_kept(pair: Pair) -> None:
    ours, theirs = pair
    before = open_files()
    many = array.array("i", [0] * (wire.MAX_FDS + 20))
    ours.sendmsg([b'{"type":"t"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
    with pytest.raises(ValueError, match="truncated"):
        wire.receive(theirs)
    assert open_files() == before


def test_a_message_over_the_limit_is_refused(pair: Pair) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    ours.send(b'{"type":"t","x":"' + b"y" * (wire.MAX_MESSAGE + 2000) + b'"}')
    with pytest.raises(ValueError, match="truncated"):
        wire.receive(theirs)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(st.dictionaries(st.text(min_size=1), _json, max_size=4))
def test_whatever_json_says_arrives_as_it_was(content: dict[str, object]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        message = {**content, "type": "t"}
        wire.send(ours, message)
        assert wire.receive(theirs) == (message, [])


def test_the_last_words_of_a_peer_that_left_ours_unread_are_read(pair: Pair) -> None:
    ours, theirs = pair
    wire.send(ours, {"type": "never read"})
    wire.send(theirs, {"type": "last"})
    wire.send(theirs, {"type": "words"})
    theirs.close()
    assert [wire.receive(ours)[0] for _ in range(3)] == [{"type": "last"}, {"type": "words"}, None]


def test_a_peer_that_left_ours_unread_and_said_nothing_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    wire.send(ours, {"type": "never read"})
    theirs.close()
    assert wire.receive(ours) == (None, [])


def test_to_a_peer_that_is_gone_nothing_can_be_said(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    read, write = os.pipe()
    for fds in ([], [write]):
        with pytest.raises(wire.PeerGoneError):
            wire.send(ours, {"type": "t"}, fds)
    os.close(read)
    os.close(write)
