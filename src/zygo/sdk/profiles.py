"""Profiles: names for servers, with their tokens, in one file that its owner alone can read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zygo.errors import InvalidError, NotFoundError


@dataclass(frozen=True)
class Profile:
    """A name for a server, and for an environment there."""

    name: str
    server: str
    token: str = ""
    environment: str = ""


_read: tuple[str, tuple[int, ...] | None, dict[str, Profile], str] | None = None
"""The last file that was read, its state then, and what it said: each call of a function asks, and reading the file, or finding
none, was a quarter of what a call costs its caller."""


def path() -> Path:
    """`$XDG_CONFIG_HOME/zygo/profiles.json`."""
    return Path(_path())


def _path() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or (os.environ.get("HOME") or os.path.expanduser("~")) + "/.config"
    return f"{base}/zygo/profiles.json"


def _state(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def load() -> tuple[dict[str, Profile], str]:
    """Every profile by name, and the name of the active one, "" for none. Raises InvalidError."""
    global _read
    file = _path()
    state = _state(file)
    if _read is None or _read[0] != file or _read[1] != state:
        _read = (file, state, *_load(Path(file)))
    return dict(_read[2]), _read[3]


def _load(file: Path) -> tuple[dict[str, Profile], str]:
    try:
        data: dict[str, Any] = json.loads(file.read_text())
        found = {
            name: Profile(name, str(v["server"]), str(v.get("token", "")), str(v.get("environment", "")))
            for name, v in data["profiles"].items()
        }
        return found, str(data.get("active") or "")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}, ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(
            f"{file} cannot be read: {error}. Mend it, or remove it and make the profiles anew."
        ) from None


def save(profiles: dict[str, Profile], active: str) -> None:
    """Write them all; the file is the owner's alone from its first byte on."""
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = {"active": active, "profiles": {name: asdict(profile) for name, profile in sorted(profiles.items())}}
    staged = file.with_name(f".{file.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as stream:
        stream.write(json.dumps(data, indent=2) + "\n")
    os.replace(staged, file)


def get(name: str) -> Profile:
    """The profile of that name. Raises NotFoundError."""
    found, _ = load()
    if name not in found:
        known = (
            f"There are: {', '.join(sorted(found))}." if found else "There is none; make one with: zygo profile create"
        )
        raise NotFoundError(f"There is no profile {name!r}. {known}")
    return found[name]


def active() -> Profile | None:
    """The profile that ZYGO_PROFILE names, else the active one. Raises NotFoundError, InvalidError."""
    name = os.environ.get("ZYGO_PROFILE", "") or load()[1]
    return get(name) if name else None
