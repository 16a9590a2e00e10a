"""A user's exception as they want to see it: from their own file on, without the frames that brought us there."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

from zygo.guest.own import is_own

if TYPE_CHECKING:
    from types import TracebackType

_FRAME = re.compile(r'  File "([^"]+)"')


def describe(error: BaseException, source: str) -> tuple[str, str | None, int | None]:
    """The trimmed traceback, and file and line of the innermost frame below `source`, when there is one."""
    start = _first_user_frame(error.__traceback__, source)
    formatted = traceback.TracebackException(type(error), error, start)
    # Nor the frames below theirs that are ours (breakpoint() is refused in one).
    kept = [frame for frame in formatted.stack if "/zygo/guest/" not in frame.filename]
    formatted.stack = traceback.StackSummary.from_list(kept)
    text = "".join(formatted.format())
    file, line = None, None
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if is_own(frame.filename, source):
            file, line = frame.filename, frame.lineno
    return text, file, line


def trim(text: str, source: str) -> str:
    """A traceback that comes as text (a failed lifespan does), from the first frame below `source` on."""
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if (at := _FRAME.match(line)) and is_own(at[1], source)), None)
    return lines[0] + "".join(lines[first:]) if first is not None and lines[0].startswith("Traceback") else text


def _first_user_frame(tb: TracebackType | None, source: str) -> TracebackType | None:
    start = tb
    while tb is not None:
        if is_own(tb.tb_frame.f_code.co_filename, source):
            return tb
        tb = tb.tb_next
    # Not one frame of theirs (a syntax error): what is ours says nothing to them.
    return None if start is not None else start
