"""The server's own log, rotated by size. Those of apps are in app_logs.py."""

from __future__ import annotations

import logging
import logging.handlers
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
log = logging.getLogger("zygo.server")


def open_server_log(directory: Path, max_bytes: int, *, foreground: bool) -> Path:
    """Send the server's own messages to `directory`/server.log (and to stderr in the foreground). Returns the file."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    path = directory / "server.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=max_bytes, backupCount=2, encoding="utf-8")
    handlers: list[logging.Handler] = [handler]
    if foreground:
        handlers.append(logging.StreamHandler())
    for each in handlers:
        each.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.INFO)
    for name in ("httpx", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return path


def tail(path: Path, lines: int) -> list[str]:
    """The last `lines` lines of a file; none when it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - 256 * 1024))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:] if lines else []
    except OSError:
        return []
