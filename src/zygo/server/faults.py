"""What the operating system refuses, in words for who asked for it."""

from __future__ import annotations

import errno

from zygo.errors import ExecutionError

FULL = (errno.ENOSPC, errno.EDQUOT)


def explained(error: OSError) -> ExecutionError:
    """`error` with the file that it is about, and the mend where there is one."""
    where = f" ({error.filename})" if error.filename else ""
    text = f"{error.strerror or error}{where}"
    if error.errno in FULL:
        return ExecutionError(f"{text}. Free space on the disk of the server's data directory, then do it again.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ExecutionError(f"{text}. Raise the limit of open files (ulimit -n) and start the server again.")
    return ExecutionError(f"{text}; `zygo server logs` has more.")
