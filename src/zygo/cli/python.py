"""`zygo python`: Python itself, with `modal` meaning `zygo`.

This process becomes the interpreter, so arguments, signals, exit status, `sys.path`, `__main__` and tracebacks are Python's
own. All that is added is a folder at the front of PYTHONPATH, from which Python imports its start (`zygo/startup`).
"""

from __future__ import annotations

import os
import sys

from zygo.sdk.launch import STARTUP

HELP = """Usage: zygo python FILE [ARGS]... | -m MODULE [ARGS]... | -c CODE [ARGS]...

  Run a program with this environment's Python, in which `import modal` gives zygo. Options are Python's own.
"""


def run(arguments: list[str]) -> int:
    """Become `python ARGUMENTS`. Returns only when there is nothing to run."""
    if arguments in ([], ["-h"], ["--help"]):
        (sys.stdout if arguments else sys.stderr).write(HELP)
        return 0 if arguments else 2
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", STARTUP)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([STARTUP, *path])}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *arguments], environment)
