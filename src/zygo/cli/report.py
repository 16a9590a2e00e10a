"""The one place where an error becomes text and an exit code.

An error's text is its message, then what caused it, one line each; a failure of the user's own code is their
traceback, nothing of ours. Our own traceback is shown with --debug alone.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from zygo import errors

if TYPE_CHECKING:
    from zygo.cli.output import Output

debug = False
"""Set by --debug (or --traceback): whether our own frames are of interest."""


def show(error: BaseException, output: Output) -> int:
    """Write `error` on stderr; the exit code that it stands for."""
    output.error(headline(error), details(error))
    if debug:
        output.error_details("".join(traceback.format_exception(error)))
    return error.exit_code if isinstance(error, errors.Error) else 1


def headline(error: BaseException) -> str:
    """The first thing to say about `error`."""
    if isinstance(error, errors.Error):
        return str(error)
    return f"zygo itself failed, please report it: {type(error).__name__}: {error}"


def details(error: BaseException) -> str:
    """What follows the headline: the user's traceback, a build step's last lines, the chain of causes."""
    parts: list[str] = []
    if own := str(getattr(error, "traceback", "") or ""):
        parts.append(own.rstrip("\n"))
    if isinstance(error, errors.ImageBuildError):
        parts += [f"step: {error.step}"] if error.step else []
        parts += [f"command: {error.command}"] if error.command else []
        parts += [error.output.rstrip("\n")] if error.output else []
    parts += _causes(error)
    if not isinstance(error, errors.Error) and not debug:
        frame = traceback.extract_tb(error.__traceback__)[-1:] if error.__traceback__ else []
        parts += [f"at {f.filename}:{f.lineno} in {f.name}; everything with --debug" for f in frame]
    return "\n".join(parts)


def _causes(error: BaseException) -> list[str]:
    found: list[str] = []
    said = str(error)
    cause = error.__cause__
    while cause is not None and len(found) < 5:
        text = str(cause) or type(cause).__name__
        if text not in said:
            found.append(f"because: {text}")
            said += text
        cause = cause.__cause__
    return found


def fatal(error: BaseException) -> int:
    """`show` for the end of a command that has no output of its own."""
    from zygo.cli.output import make

    return show(error, make(sys.stdout, sys.stderr))
