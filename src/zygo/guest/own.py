"""Which files are the user's own.

They lie in /root, and so may what is not theirs: an interpreter of root's (pyenv, uv), an image, zygo's own packages, which the
sandbox shows at the path that they have on the host.
"""

from __future__ import annotations

import os
import sys


def _places() -> tuple[str, ...]:
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__)]
    found += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    found.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    found += [os.path.realpath(path) for path in found]
    return tuple(dict.fromkeys(os.path.join(path, "") for path in found))


PLACES = _places()
"""The folders of the interpreter, its packages and zygo, as they are before anything of the user's is imported."""


def is_own(path: str, source: str) -> bool:
    """Whether the absolute `path` is a file of the user's, whose modules lie below the folder `source`."""
    below = source.rstrip("/") + "/"
    if not path.startswith(below):
        return False
    return not any(path.startswith(place) for place in PLACES if place.startswith(below) and place != below)
