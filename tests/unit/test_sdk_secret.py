"""Secret: where values come from, and that they are never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import zygo
from zygo.errors import InvalidError, UnsupportedError
from zygo.model import SecretUse
from zygo.sdk import context
from zygo.sdk.secret import add_up, parse_dotenv

if TYPE_CHECKING:
    from pathlib import Path


def test_from_dict() -> None:
    secret = zygo.Secret.from_dict({"A": "1", "B": None})
    assert secret.resolve().values == {"A": "1"}
    secret.update({"A": "2", "C": "3"})
    assert secret.resolve().values == {"A": "2", "C": "3"}
    assert zygo.Secret.from_dict().resolve().values == {}


def test_values_are_not_in_representations_or_messages() -> None:
    secret = zygo.Secret.from_dict({"A": "hunter2"})
    assert "hunter2" not in repr(secret) + repr(secret.resolve())
    with pytest.raises(InvalidError) as caught:
        zygo.Secret.from_dict({"A": b"hunter2"})  # type: ignore[dict-item]
    assert "hunter2" not in str(caught.value)


def test_from_local_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H2_TOKEN", "x")
    monkeypatch.delenv("H2_NONE", raising=False)
    assert zygo.Secret.from_local_environ(["H2_TOKEN"]).resolve().values == {"H2_TOKEN": "x"}
    with pytest.raises(InvalidError, match="H2_NONE not set"):
        zygo.Secret.from_local_environ(["H2_TOKEN", "H2_NONE"]).resolve()
    with pytest.raises(InvalidError, match=r"\['H2_TOKEN'\]"):
        zygo.Secret.from_local_environ("H2_TOKEN")


def test_nothing_is_read_in_a_container() -> None:
    context.set_remote(True)
    try:
        assert zygo.Secret.from_local_environ(["H2_NONE"]).resolve().values == {}
    finally:
        context.set_remote(False)


def test_from_dotenv_finds_the_file_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "app.py").write_text("")
    monkeypatch.chdir(deep)
    for secret in (
        zygo.Secret.from_dotenv(),
        zygo.Secret.from_dotenv(str(deep / "app.py")),
        zygo.Secret.from_dotenv(deep),
        zygo.Secret.from_dotenv(tmp_path / ".env"),
    ):
        resolved = secret.resolve()
        assert resolved.values == {"A": "1"}
        assert resolved.watch[0].wants(str(tmp_path / ".env"))
    (tmp_path / "prod.env").write_text("A=2\n")
    assert zygo.Secret.from_dotenv(filename="prod.env").resolve().values == {"A": "2"}


def test_from_dotenv_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"there is no none\.env"):
        zygo.Secret.from_dotenv(tmp_path, filename="none.env").resolve()


def test_a_named_one_is_the_servers() -> None:
    secret = zygo.Secret.from_name("openai", environment_name="staging", required_keys=["KEY"])
    assert repr(secret) == "Secret.from_name('openai')"
    assert secret.use == SecretUse("openai", "staging", ("KEY",))
    assert secret.resolve().values == {}
    with pytest.raises(InvalidError, match="zygo secret create openai --force"):
        secret.update({"A": "1"})
    for name, more in (("", {}), ("a b", {}), ("a", {"required_keys": "KEY"}), ("a", {"environment_name": ""})):
        with pytest.raises(InvalidError):
            zygo.Secret.from_name(name, **more)


def test_a_caller_cannot_ask_for_one() -> None:
    with pytest.raises(UnsupportedError, match=r"Secret\.from_name\('openai'\) in with_options\(\)"):
        zygo.Function.from_name("a", "b").with_options(secrets=[zygo.Secret.from_name("openai")])


def test_later_ones_win_also_among_those_of_the_server() -> None:
    def used(*secrets: zygo.Secret, env: dict[str, str] | None = None) -> tuple[dict[str, str], list[tuple[str, ...]]]:
        values, uses = add_up(secrets, env or {})
        return values, [use.over for use in uses]

    one, two = zygo.Secret.from_dict({"A": "1", "B": "1"}), zygo.Secret.from_dict({"B": "2"})
    named = zygo.Secret.from_name("named")
    assert used(named) == ({}, [()])
    assert used(named, one) == ({"A": "1", "B": "1"}, [()])
    assert used(one, named) == ({"A": "1", "B": "1"}, [("A", "B")])
    assert used(one, named, two, named) == ({"A": "1", "B": "2"}, [("A",), ("A", "B")])
    assert used(one, named, env={"A": "3"}) == ({"A": "3", "B": "1"}, [("B",)])


def test_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("H2_HOME", "/h")
    text = """
# a comment
PLAIN=value
export EXPORTED=yes
SPACES = around
EMPTY=
BARE
COMMENT=value # not this
HASH=a#b
SINGLE='a $PLAIN \\n "b" # c'
DOUBLE="a\\tb \\"q\\" # c"  # comment
LINES="one
two"
REFERENCE=${PLAIN}/x
OUTSIDE=${H2_HOME}
DEFAULT=${H2_UNSET:-d}
URL=https://u:p@h/?a=b&c=d
"""
    assert parse_dotenv(text) == {
        "PLAIN": "value",
        "EXPORTED": "yes",
        "SPACES": "around",
        "EMPTY": "",
        "COMMENT": "value",
        "HASH": "a#b",
        "SINGLE": 'a $PLAIN \\n "b" # c',
        "DOUBLE": 'a\tb "q" # c',
        "LINES": "one\ntwo",
        "REFERENCE": "value/x",
        "OUTSIDE": "/h",
        "DEFAULT": "d",
        "URL": "https://u:p@h/?a=b&c=d",
    }
