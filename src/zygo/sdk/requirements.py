"""Requirements files: read as they are when the app is served, with the files that they include."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from zygo.errors import InvalidError
from zygo.sdk.sources import WatchRoot, watch_file

_INCLUDE = re.compile(r"^\s*(?:-r|--requirement)(?:\s+|=)(?P<path>\S+)\s*(?:#.*)?$")
_UNSUPPORTED = re.compile(r"^\s*(?P<option>-c|--constraint|-e|--editable)\b")
_LOCAL = re.compile(r"^\s*(?:\.{0,2}/|file:|[A-Za-z0-9._-]+(?:\[[^]]*\])?\s*@\s*file:)")


@dataclass(frozen=True)
class Requirements:
    """The text with its includes in place, and what to watch."""

    content: str
    watch: tuple[WatchRoot, ...]


def read(call: str, path: str, _seen: tuple[str, ...] = ()) -> Requirements:
    """Read a requirements file.

    Arguments:
        call: the Image method in messages.
        path: absolute.

    Raises InvalidError when it cannot be read, or names what only this machine has.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidError(f"{call}: {path} cannot be read: {reason}.") from None
    lines: list[str] = []
    watch = watch_file(path)
    for number, line in enumerate(text.splitlines(), 1):
        refused = _UNSUPPORTED.match(line)
        if refused or _LOCAL.match(line):
            what = refused["option"] if refused else "a path of this machine"
            raise InvalidError(
                f"{call}: {path}, line {number} uses {what}, which an image cannot see: {line.strip()}\n"
                f"Name released packages there, and add local code with image.add_local_python_source(...)."
            )
        include = _INCLUDE.match(line)
        if not include:
            lines.append(line.rstrip())
            continue
        nested_path = os.path.normpath(os.path.join(os.path.dirname(path), include["path"]))
        if nested_path in (path, *_seen):
            raise InvalidError(f"{call}: {path}, line {number} includes {nested_path}, which includes it.")
        nested = read(call, nested_path, (*_seen, path))
        lines += nested.content.splitlines()
        watch += nested.watch
    return Requirements("\n".join(lines) + "\n", tuple(watch))
