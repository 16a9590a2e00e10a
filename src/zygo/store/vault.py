"""Values that lie sealed in the database, and the key for it, in a file beside the data.

The key is not in the database, so that a copy of the one (a dump, a backup, a replica) gives nothing away.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import secrets
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken

from zygo.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("zygo.store")

MEND = (
    "Put that file back from a backup of the data directory. Without one the secrets are lost: start with an empty "
    "database (move the old one away) and deploy again."
)


class Vault:
    """Seals and opens with one key."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._fernet = Fernet(key)
        # The key has 256 random bits: its hash says which one it is and nothing more.
        self.fingerprint = hashlib.sha256(b"zygo store key " + key).hexdigest()[:32]

    @classmethod
    def open(cls, path: Path, expected: str | None) -> Vault:
        """The vault with the key in `path`, which is made when it is not there and no value was sealed yet.

        Arguments:
            expected: the fingerprint of the key that the database's values are sealed with, None when there is none.

        Raises StoreError when that key is missing, damaged or another one.
        """
        key = _read(path)
        if key is None and expected is not None:
            raise StoreError(f"{path} is missing, the key of the secrets in the database. {MEND}")
        vault = cls(path, key if key is not None else _make(path))
        if expected is not None and vault.fingerprint != expected:
            raise StoreError(f"{path} is not the key that the secrets in the database are sealed with. {MEND}")
        return vault

    def seal(self, text: str) -> str:
        """`text` as what only the key opens."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def unseal(self, sealed: str) -> str:
        """What was sealed. Raises StoreError when it was with another key, or was changed since."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise StoreError(
                f"A secret in the database cannot be opened with the key in {self._path}. {MEND}"
            ) from None


def _read(path: Path) -> bytes | None:
    try:
        text = path.read_bytes().strip()
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}, the key of the secrets, cannot be read: {error.strerror}. {MEND}") from None
    if mode & 0o077:
        log.warning("%s could be read by other users (mode %o); it is closed to them now", path, mode & 0o777)
        path.chmod(0o600)
    try:
        valid = len(base64.urlsafe_b64decode(text)) == 32
    except ValueError:
        valid = False
    if not valid:
        raise StoreError(f"{path} does not hold a key. {MEND}")
    return text


def _make(path: Path) -> bytes:
    """A new key in `path`, or the one that somebody else has put there at the same moment. Never half a file: it appears
    by a link, on disk before anything is sealed with it."""
    key = Fernet.generate_key()
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(staged, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}, the key for secrets, cannot be made: {error.strerror}.") from None
    finally:
        staged.unlink(missing_ok=True)
    found = _read(path)
    assert found is not None
    return found


def sync_folder(folder: Path) -> None:
    """What was created in `folder` is there after a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """What was written to the file is."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
