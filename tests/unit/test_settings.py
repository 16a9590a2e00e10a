"""Settings: where they come from, what they may be, what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from zygo.errors import InvalidError
from zygo.settings import Settings


def test_arguments_win_over_the_environment_and_that_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZYGO_PORT", "9000")
    monkeypatch.setenv("ZYGO_SPARES", "3")
    settings = Settings(spares=4, data_dir="/somewhere")
    assert (settings.port, settings.spares, settings.max_waiting) == (9000, 4, 2000)
    assert settings.data_dir == Path("/somewhere")
    assert set(settings.given) >= {"port", "spares", "data_dir"}
    assert "max_waiting" not in settings.given


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ZYGO_IDLE_EXIT", "0.5", 0.5),
        ("ZYGO_IDLE_EXIT", "150s", 150.0),
        ("ZYGO_TLS_REDIRECT", "Yes", True),
        ("ZYGO_TLS_REDIRECT", "0", False),
        ("ZYGO_SANDBOX", "off", "off"),
        ("ZYGO_RUNTIME_DIR", "/run/x", Path("/run/x")),
        ("ZYGO_TLS_CERT", "/a/b.pem, /c/d.pem", "/a/b.pem,/c/d.pem"),
        ("zygo_workspace", "team-1", "team-1"),
    ],
)
def test_text_becomes_what_the_setting_is(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(Settings(), name[5:].lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ZYGO_PORT", "http", "ZYGO_PORT: 'http' is not a whole number"),
        ("ZYGO_PORT", "65536", "ZYGO_PORT: 65536 is above 65535"),
        ("ZYGO_KEEP_REVISIONS", "0", "ZYGO_KEEP_REVISIONS: 0 is below 1"),
        ("ZYGO_BUILD_TIMEOUT", "0", "ZYGO_BUILD_TIMEOUT: 0 is not above 0"),
        ("ZYGO_IDLE_EXIT", "nan", "ZYGO_IDLE_EXIT: nan is not a number to count with"),
        ("ZYGO_TLS_REDIRECT", "maybe", "ZYGO_TLS_REDIRECT: 'maybe' is neither true nor false"),
        ("ZYGO_SANDBOX", "maybe", "ZYGO_SANDBOX: 'maybe' is none of auto, require, off"),
        ("ZYGO_WORKSPACE", "My_Team", "ZYGO_WORKSPACE: 'My_Team' is not 1 to 30 small letters"),
        ("ZYGO_TRUSTED_PROXIES", "10.0.0.0/8,x", "ZYGO_TRUSTED_PROXIES: 'x' does not appear to be"),
    ],
)
def test_a_value_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(InvalidError, match="A setting is not valid") as caught:
        Settings()
    assert said in str(caught.value)


def test_every_wrong_one_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZYGO_PORT", "-1")
    monkeypatch.setenv("ZYGO_SPARES", "many")
    with pytest.raises(InvalidError, match=r"ZYGO_PORT: .*; ZYGO_SPARES: "):
        Settings()


def test_others_are_left_as_they_are_by_replace_and_a_password_is_not_shown() -> None:
    settings = Settings(database_url="postgresql://me:secret@host/x", port=7)
    assert settings.replace(port=8).database_url == settings.database_url
    assert "secret" not in repr(settings)
    assert "port=7" in repr(settings)
    with pytest.raises(TypeError, match="nonsense"):
        Settings(nonsense=1)
