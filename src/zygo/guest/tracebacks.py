"""A user's exception as they want to see it: from their own file on, without the frames that brought us there."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def describe(error: BaseException, source: str) -> tuple[str, str | None, int | None]:
    """The trimmed traceback, and file and line of the innermost frame below `source`, when there is one."""
    start = _first_user_frame(error.__traceback__, source)
    text = "".join(traceback.format_exception(type(error), error, start))
    file, line = None, None
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(source + "/"):
            file, line = frame.filename, frame.lineno
    return text, file, line


def _first_user_frame(tb: TracebackType | None, source: str) -> TracebackType | None:
    start = tb
    while tb is not None:
        if tb.tb_frame.f_code.co_filename.startswith(source + "/"):
            return tb
        tb = tb.tb_next
    # Not one frame of theirs (a syntax error): what is ours says nothing to them.
    return None if start is not None else start
