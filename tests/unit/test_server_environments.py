"""What environments may be called, and what they add to hostnames."""

from __future__ import annotations

import pytest

from zygo.errors import InvalidError
from zygo.sdk import labels
from zygo.server.apps import function_id
from zygo.server.environments import Environment, check_name, check_suffix, suffix_of


@pytest.mark.parametrize("name", ["staging", "a", "A.b_c-d", "1", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "x" * 65, "a\n"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidError, match="is not a name of an environment"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("staging", "staging"),
        ("Ada.Lovelace_2", "ada-lovelace-2"),
        ("a--b", "a-b"),
        ("a-very-long-name-of-one", "a-very-long-name"),
        ("fifteen-letters-x", "fifteen-letters"),
        ("---", "x"),
    ],
)
def test_the_suffix_of_a_name(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix
    assert check_suffix(suffix) == suffix


@pytest.mark.parametrize("suffix", ["A", "a--b", "-a", "a-", "a.b", "x" * 17, "a\n"])
def test_what_is_no_suffix(suffix: str) -> None:
    with pytest.raises(InvalidError, match="is not a web suffix"):
        check_suffix(suffix)


def test_hostnames() -> None:
    assert Environment().source("local") == "local"
    source = Environment("en-1", "staging", "s").source("local")
    assert source == "local-s"
    assert labels.label("shop", "front", workspace=source).text == "local-s--shop-front"
    long = labels.label("a" * 40, "b" * 20, dev_suffix="dev", workspace=source)
    assert long.truncated
    assert len(long.text) == 63
    assert long.text.startswith("local-s--aaa")


def test_function_ids_of_the_first_environment_are_what_they_were() -> None:
    before = function_id("ap-1", "deployed", "shop", "front")
    assert before == function_id("ap-2", "deployed", "shop", "front", "main")
    assert before != function_id("ap-1", "deployed", "shop", "front", "en-1")
