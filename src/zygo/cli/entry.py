"""The `zygo` command's first lines: a process that takes long to start is started before the rest is imported."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

EVALUATING = ("deploy", "serve")
"""Commands that evaluate the user's file."""


def main() -> None:
    """The `zygo` command."""
    arguments = sys.argv[1:]
    while arguments and arguments[0].startswith("--server"):
        arguments = arguments[1 if "=" in arguments[0] else 2 :]
    if len(arguments) > 1 and arguments[0] in EVALUATING and not {"-h", "--help"} & set(arguments):
        from zygo.program import headstart

        headstart.begin()
    if arguments[:1] == ["python"]:
        from zygo.cli import python

        sys.exit(python.run(arguments[1:]))
    from zygo.cli import main as tree

    _end(tree.run())


def _end(code: int) -> None:
    """End at once: what an interpreter takes apart at its end would be a tenth of a short command's time.

    Threads that are not daemons are waited for, and what was registered with atexit runs, as at any end.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
