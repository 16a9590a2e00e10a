"""Frames: what goes in comes out, however it is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zygo.sdk import frames

KINDS = st.sampled_from([frames.INPUT, frames.VALUE, frames.FAILURE, frames.RETURNED, frames.END])
FRAMES = st.lists(st.tuples(KINDS, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=100)))


@given(FRAMES, st.integers(1, 50))
def test_any_frames_in_any_pieces(given_frames: list[tuple[bytes, int, int, bytes]], size: int) -> None:
    data = b"".join(frames.frame(kind, index, payload, took) for kind, index, took, payload in given_frames)
    reader = frames.Reader()
    found = [frame for at in range(0, len(data), size) for frame in reader.feed(data[at : at + size])]
    assert found == given_frames
    assert not reader.incomplete


def test_a_time_beyond_the_field_is_its_longest() -> None:
    assert frames.Reader().feed(frames.frame(frames.VALUE, 0, b"", 10**12))[0][2] == 2**32 - 1
