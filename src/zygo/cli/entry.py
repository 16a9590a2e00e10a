"""The `zygo` command's first lines: a process that takes long to start is started before the rest is imported."""

from __future__ import annotations

import sys

EVALUATING = ("deploy", "serve")
"""Commands that evaluate the user's file."""


def main() -> None:
    """The `zygo` command."""
    arguments = sys.argv[1:]
    if len(arguments) > 1 and arguments[0] in EVALUATING and not {"-h", "--help"} & set(arguments):
        from zygo.program import headstart

        headstart.begin()
    if arguments[:1] == ["python"]:
        from zygo.cli import python

        sys.exit(python.run(arguments[1:]))
    from zygo.cli import main as tree

    tree.main()
