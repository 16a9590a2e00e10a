"""Which zygo this is: the version that a user sees, and a fingerprint that tells two builds of it apart.

The command and the server compare both, so that a server that runs yesterday's code is replaced and not spoken to.
"""

from __future__ import annotations

import functools
import hashlib
import os


@functools.lru_cache(maxsize=1)
def version() -> str:
    """The installed version; "0" where the package is not installed (inside a container)."""
    from importlib import metadata

    try:
        return metadata.version("zygo")
    except metadata.PackageNotFoundError:
        return "0"


@functools.lru_cache(maxsize=1)
def fingerprint() -> str:
    """16 hex digits over the content of every Python file of the package *as this process first asked*.

    Content and not times or paths: two environments with the same build share one server. A long-lived process
    asks once at its start, so that later edits do not change what it says about the code it runs.
    """
    root = os.path.dirname(os.path.abspath(__file__))
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                digest.update(os.path.relpath(path, root).encode() + b"\0")
                with open(path, "rb") as file:
                    digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]
