"""Log files: the server's own and one per app, rotated by size. What is written is what a user can show to somebody."""

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


class AppLog:
    """The file that keeps an app's output: `<time> <function> <stream> <text>` a line."""

    def __init__(self, directory: Path, app: str, max_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{app}.log"
        self._handler = logging.handlers.RotatingFileHandler(
            self.path, maxBytes=max_bytes, backupCount=2, encoding="utf-8", delay=True
        )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def write(self, function: str, stream: str, text: str) -> None:
        """Add one line."""
        record = logging.LogRecord("app", logging.INFO, "", 0, "%s %s %s", (function or "-", stream, text), None)
        self._handler.emit(record)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._handler.close()


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
