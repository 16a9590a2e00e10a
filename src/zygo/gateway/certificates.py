"""Certificates from files: read, checked, chosen by the name that a client asks for, and replaced while the server runs.

A listener's context is made once and outlives every certificate: in each handshake `Certificates` gives the connection the
context of the pair that fits. So a renewed certificate needs no new listener, and connections that are open go on.
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

SOON = timedelta(days=14)
"""A certificate that ends within this time is warned of: renewals happen a month before the end."""

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """The PEM files of a certificate (its chain behind it) and of its key; both may be one file."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """One pair that was read: its context, the names in it (lower-case, `*.` for one label), and when it ends."""

    pair: Pair
    context: ssl.SSLContext
    names: frozenset[str]
    begins: datetime
    ends: datetime

    def warning(self, now: datetime) -> str:
        """What is wrong with its time, "" when nothing is."""
        file = self.pair.certificate
        if now < self.begins:
            return f"The certificate in {file} is not valid before {self.begins:%Y-%m-%d %H:%M} UTC; clients refuse it."
        if now >= self.ends:
            return f"The certificate in {file} ended on {self.ends:%Y-%m-%d %H:%M} UTC; clients refuse it. Renew it."
        if now >= self.ends - SOON:
            return f"The certificate in {file} ends on {self.ends:%Y-%m-%d %H:%M} UTC. Renew it."
        return ""


def new_context() -> ssl.SSLContext:
    """A server's context without a certificate: TLS 1.2 or newer, HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def load(pair: Pair) -> Loaded:
    """Read a pair. Raises InvalidError that names the file, the cause and the mend."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        first = x509.load_pem_x509_certificates(_read(pair.certificate, "certificate"))[0]
    except ValueError:
        raise InvalidError(
            f"{pair.certificate} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----). "
            "ZYGO_TLS_CERT names the file with the certificate and its chain."
        ) from None
    text = _read(pair.key, "key")
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        raise InvalidError(
            f"The key in {pair.key} is protected by a passphrase, and nobody is there to type it. Store it without one: "
            f"openssl pkey -in {pair.key} -out key.pem"
        ) from None
    except Exception:
        raise InvalidError(f"{pair.key} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----).") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise InvalidError(
            f"The key in {pair.key} does not belong to the certificate in {pair.certificate}. Name the two files that were "
            "made together; the certificate comes first in its file, then its chain."
        )
    context = new_context()
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_nobody)
    except (ssl.SSLError, OSError) as error:
        raise InvalidError(f"{pair.certificate} and {pair.key} cannot be used: {error}.") from None
    return Loaded(pair, context, _names(first), first.not_valid_before_utc, first.not_valid_after_utc)


@dataclass(slots=True)
class Certificates:
    """The certificates of one gateway. `context` is for its listener. Raises InvalidError when a pair cannot be used.

    The first pair answers names that no pair has, and clients that ask for none.
    """

    pairs: Sequence[Pair]
    context: ssl.SSLContext = field(init=False)
    _loaded: list[Loaded] = field(init=False)
    _by_name: dict[str, ssl.SSLContext] = field(init=False)
    _stamp: Stamp = field(init=False)
    _seen: Stamp = field(init=False)

    def __post_init__(self) -> None:
        self._stamp = self._seen = self._look()
        self._use([load(pair) for pair in self.pairs])
        self.context = new_context()
        self.context.load_cert_chain(self.pairs[0].certificate, self.pairs[0].key, password=_nobody)
        self.context.sni_callback = self._choose

    @property
    def names(self) -> frozenset[str]:
        """Every name that a certificate has."""
        return frozenset().union(*(loaded.names for loaded in self._loaded))

    def covers(self, name: str) -> bool:
        """Whether a certificate is good for `name`; for `*.x` whether for every name right below x."""
        return name in self._by_name or (not name.startswith("*.") and f"*.{name.partition('.')[2]}" in self._by_name)

    def warnings(self) -> list[str]:
        """What is wrong with the certificates' times now."""
        now = datetime.now(UTC)
        return [text for loaded in self._loaded if (text := loaded.warning(now))]

    def refresh(self) -> bool:
        """Look at the files; whether others are used now. To be called now and then.

        Files that have just changed are left until they look the same twice: a certificate and its key are two files and
        are replaced one after the other. What cannot be used is logged, and the old ones stay.
        """
        stamp = self._look()
        if stamp == self._stamp or stamp != self._seen:
            self._seen = stamp
            return False
        self._stamp = stamp
        try:
            self._use([load(pair) for pair in self.pairs])
        except InvalidError as error:
            log.error("the certificate files have changed and cannot be used, so the old ones stay: %s", error)
            return False
        log.info("certificates loaded anew: %s", ", ".join(sorted(self.names)) or "no names")
        for text in self.warnings():
            log.warning(text)
        return True

    def _use(self, loaded: list[Loaded]) -> None:
        self._loaded = loaded
        self._by_name = {name: each.context for each in reversed(loaded) for name in each.names}

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        name = (name or "").lower().rstrip(".")
        known = self._by_name
        connection.context = known.get(name) or known.get(f"*.{name.partition('.')[2]}") or self._loaded[0].context

    def _look(self) -> Stamp:
        return tuple(_stamp(file) for pair in self.pairs for file in (pair.certificate, pair.key))


def pairs_of(certificates: Sequence[Path], keys: Sequence[Path]) -> list[Pair]:
    """The pairs that the settings name. Without keys, each is in its certificate's file. Raises InvalidError."""
    if keys and len(keys) != len(certificates):
        raise InvalidError(
            f"ZYGO_TLS_CERT names {len(certificates)} files and ZYGO_TLS_KEY {len(keys)}. Give one key for each certificate, in "
            "the same order, separated by commas."
        )
    return [Pair(*both) for both in zip(certificates, keys or certificates, strict=True)]


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        mend = (
            f" The server runs as uid {os.geteuid()}, which must be able to read it."
            if isinstance(error, PermissionError)
            else ""
        )
        raise InvalidError(f"The {what} file {path} cannot be read: {error.strerror}.{mend}") from None


def _names(certificate: object) -> frozenset[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower().rstrip(".") for name in found.get_values_for_type(x509.DNSName))


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _nobody() -> NoReturn:
    raise InvalidError("a key has a passphrase")  # OpenSSL would ask for it at the terminal
