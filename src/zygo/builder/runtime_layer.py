"""What the guest code needs beside the standard library, for each Python version: requirement ranges and their hash.

The layer lies after the image's own packages on the path, so these are the versions of last resort. Each range starts
where the guest code was first run and ends before the next release that may break it; the last release of each project
that runs on Python 3.9 is within its range. The resolver takes the newest that has a wheel for the interpreter.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig

REQUIREMENTS = (
    "a2wsgi>=1.10,<2",
    "cloudpickle>=3.0,<4",
    "fastapi>=0.115,<1",
    "httptools>=0.6.4,<1",
    "python-multipart>=0.0.18,<1",
    "uvicorn>=0.34,<1",
    "uvloop>=0.21,<1",
    "websockets>=14,<18",
)


def requirements(version: str) -> tuple[str, ...]:
    """The requirement lines for Python `version` ("3.X")."""
    # uvloop 0.21 and httptools 0.6 have no wheels for 3.14.
    newer = {"uvloop": "uvloop>=0.22,<1", "httptools": "httptools>=0.7,<1"} if version == "3.14" else {}
    return tuple(newer.get(line.split(">")[0], line) for line in REQUIREMENTS)


def folder_name(version: str) -> str:
    """The folder of that layer: the version, and a hash over the lines and the platform."""
    lines = [*requirements(version), platform.machine(), sysconfig.get_platform()]
    return f"{version}-{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def arguments(version: str, target: str, *, wheels_only: bool) -> list[str]:
    """The arguments of `uv` that install the layer into `target`."""
    wheels = ["--only-binary", ":all:"] if wheels_only else []
    return ["pip", "install", "--target", target, "--link-mode", "hardlink", *wheels, *requirements(version)]
