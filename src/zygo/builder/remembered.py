"""Which interpreter a version was, from one server to the next: asking each candidate takes longer than a deployed app has to
answer after a restart.

It holds as long as the same programs are in the places where interpreters are looked for, by name, time and size.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.builder import interpreters
from zygo.builder.interpreters import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterable


def state_of(version: str, extra: tuple[Path, ...]) -> str:
    """A hash of all the programs that a search for `version` would ask; changes when one comes, goes or is replaced."""
    return _hash(interpreters.candidates(version, None, extra))


def recall(memory: Path, version: str, state: str) -> Interpreter | None:
    """The interpreter that was noted for `version` in this state, if it is still what it was."""
    try:
        noted = json.loads(memory.read_text())[version]
        found = Interpreter(Path(noted["path"]), str(noted["version"]), Path(noted["prefix"]), bool(noted["shared"]))
        same = noted["state"] == state and noted["own"] == _hash([found.path]) and os.access(found.path, os.X_OK)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if same else None


def note(memory: Path, version: str, state: str, found: Interpreter) -> None:
    """Remember `found` for `version`. Raises OSError."""
    try:
        known = dict(json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    known[version] = {
        "path": str(found.path),
        "version": found.version,
        "prefix": str(found.prefix),
        "shared": found.shared,
        "state": state,
        "own": _hash([found.path]),
    }
    staged = memory.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(known, indent=1))
    staged.replace(memory)


def _hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        digest.update(f"{path}\0{found.st_mtime_ns}\0{found.st_size}\n".encode())
    return digest.hexdigest()
