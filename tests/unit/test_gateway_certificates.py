"""Certificate files: what is refused and how, which one answers a name, and when others are used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tls_kit import DAY, Authority
from zygo.errors import InvalidError
from zygo.gateway.certificates import Certificates, Pair, load, pairs_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_pair_has_the_names_of_its_certificate(authority: Authority) -> None:
    found = Certificates([authority.pair("a", "Apps.example.com", "*.apps.example.com")])
    assert found.names == {"apps.example.com", "*.apps.example.com"}
    assert found.covers("apps.example.com")
    assert found.covers("x.apps.example.com")
    assert found.covers("*.apps.example.com")
    assert not found.covers("x.y.apps.example.com")
    assert not found.covers("*.example.com")
    assert found.warnings() == []


def test_one_file_may_hold_both(authority: Authority) -> None:
    pair = authority.pair("a", "a.example.com")
    both = authority.folder / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    (found,) = pairs_of([both], [])
    assert load(found).names == {"a.example.com"}


def test_a_key_of_another_certificate_is_refused_with_both_names(authority: Authority) -> None:
    one, other = authority.pair("one", "a.example.com"), authority.pair("other", "a.example.com")
    with pytest.raises(InvalidError, match=r"key in .*other.key does not belong to the certificate in .*one.pem"):
        load(Pair(one.certificate, other.key))


def test_what_cannot_be_read_is_named_with_the_cause(authority: Authority, tmp_path: Path) -> None:
    pair = authority.pair("a", "a.example.com")
    with pytest.raises(InvalidError, match=r"certificate file .*nothing.pem cannot be read: No such file"):
        load(Pair(tmp_path / "nothing.pem", pair.key))
    with pytest.raises(InvalidError, match=r"a.key holds no certificate in PEM form"):
        load(Pair(pair.key, pair.key))
    with pytest.raises(InvalidError, match=r"a.pem holds no private key in PEM form"):
        load(Pair(pair.certificate, pair.certificate))
    secret = authority.pair("b", "b.example.com", passphrase=b"open sesame")
    with pytest.raises(InvalidError, match="passphrase"):
        load(secret)


def test_as_many_keys_as_certificates() -> None:
    with pytest.raises(InvalidError, match="names 2 files and ZYGO_TLS_KEY 1"):
        pairs_of([Path("a"), Path("b")], [Path("c")])


@pytest.mark.parametrize(("ends", "text"), [(-DAY, "ended on"), (3 * DAY, "Renew it"), (60 * DAY, "")])
def test_a_certificate_at_its_end_is_warned_of(authority: Authority, ends: object, text: str) -> None:
    warnings = Certificates([authority.pair("a", "a.example.com", ends=ends)]).warnings()  # type: ignore[arg-type]
    assert [text in each for each in warnings] == ([True] if text else [])


def test_files_are_used_once_they_look_the_same_twice(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    found = Certificates([authority.pair("a", "old.example.com")])
    assert not found.refresh()
    authority.pair("a", "new.example.com")
    assert not found.refresh()
    assert found.names == {"old.example.com"}
    assert found.refresh()
    assert found.names == {"new.example.com"}
    assert not found.refresh()


def test_files_that_cannot_be_used_leave_the_old_ones(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    pair = authority.pair("a", "old.example.com")
    found = Certificates([pair])
    whole = pair.certificate.read_bytes()
    pair.certificate.write_bytes(b"half of i")
    assert [found.refresh(), found.refresh(), found.refresh()] == [False] * 3
    assert caplog.text.count("the old ones stay") == 1
    assert found.names == {"old.example.com"}
    pair.certificate.write_bytes(whole)
    assert [found.refresh(), found.refresh()] == [False, True]
    os.unlink(pair.key)
    assert [found.refresh(), found.refresh()] == [False, False]
    assert "a.key cannot be read" in caplog.text
