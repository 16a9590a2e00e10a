"""Labels: what a function's hostname starts with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zygo.errors import InvalidError
from zygo.sdk.labels import Label, label


def test_app_and_function() -> None:
    assert label("web-demo", "f") == Label("web-demo-f")
    assert label("web-demo", "f", dev_suffix="dev") == Label("web-demo-f-dev")
    assert label("web-demo", "f", dev_suffix="dev", workspace="local") == Label("local--web-demo-f-dev")
    assert label("My_App.v2", "Do_It") == Label("my-app-v2-do-it")


def test_a_custom_label_replaces_both() -> None:
    assert label("a", "b", custom="mine", dev_suffix="dev") == Label("mine-dev")
    with pytest.raises(InvalidError, match="Use label='my-label'"):
        label("a", "b", custom="My_Label")


def test_a_bad_suffix() -> None:
    for suffix in ("-dev", "toolongone", "Dev"):
        with pytest.raises(InvalidError):
            label("a", "b", dev_suffix=suffix)


def test_a_long_one_is_truncated_with_a_hash() -> None:
    long = label("a" * 40, "b" * 40)
    assert long.truncated
    assert len(long.text) == 63
    assert long.text.startswith("a" * 40 + "-bbb")
    assert label("a" * 40, "b" * 40) == long
    assert label("a" * 40, "b" * 41).text != long.text
    assert label("a" * 40, "b" * 40, dev_suffix="dev").text != long.text


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80), st.sampled_from(["", "dev"]))
def test_it_is_always_one_dns_label(app: str, function: str, suffix: str) -> None:
    text = label(app, function, dev_suffix=suffix, workspace="local").text
    assert len(text) <= 63
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not text.startswith("-")
    assert not text.endswith("-")
