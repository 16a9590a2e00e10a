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


def path() -> Path:
    """`$XDG_CONFIG_HOME/zygo/profiles.json`."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "zygo" / "profiles.json"


def load() -> tuple[dict[str, Profile], str]:
    """Every profile by name, and the name of the active one, "" for none. Raises InvalidError."""
    file = path()
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
