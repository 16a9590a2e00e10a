"""`zygo python`: Python itself, with `modal` meaning `zygo`.

This process becomes the interpreter, so arguments, signals, exit status, `sys.path`, `__main__` and tracebacks are Python's
own. All that is added is a folder at the front of PYTHONPATH, from which Python imports its start (`zygo/startup`).
"""

from __future__ import annotations

import os
import sys

from zygo.sdk.launch import STARTUP

HELP = """Usage: zygo python [-e NAME] FILE [ARGS]... | -m MODULE [ARGS]... | -c CODE [ARGS]...

  Run a program with this environment's Python, in which `import modal` gives zygo. Options are Python's own, but for one
  in front of them: -e NAME or --env NAME is the environment whose apps the program calls, as with ZYGO_ENVIRONMENT or,
  where that is not set, MODAL_ENVIRONMENT.
"""


def run(arguments: list[str]) -> int:
    """Become `python ARGUMENTS`. Returns only when there is nothing to run."""
    arguments = _environment(arguments)
    if arguments in ([], ["-h"], ["--help"]):
        (sys.stdout if arguments else sys.stderr).write(HELP)
        return 0 if arguments else 2
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", STARTUP)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([STARTUP, *path])}
    if "ZYGO_ENVIRONMENT" not in environment and environment.get("MODAL_ENVIRONMENT"):
        environment["ZYGO_ENVIRONMENT"] = environment["MODAL_ENVIRONMENT"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *arguments], environment)


def _environment(arguments: list[str]) -> list[str]:
    """Take the environment from the front of the arguments; those that are left."""
    first, *rest = arguments or [""]
    if first.startswith("--env="):
        os.environ["ZYGO_ENVIRONMENT"] = first.removeprefix("--env=")
        return rest
    if first in ("-e", "--env") and rest:
        os.environ["ZYGO_ENVIRONMENT"] = rest[0]
        return rest[1:]
    return arguments
