"""Programs run to their end, with stdout and stderr apart; and one that is still running."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from zygo.testing.harness import Place

SECONDS = 60.0


def finished(
    place: Place, *arguments: str, cwd: Path, command: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`zygo ARGUMENTS`, or another command with them, run in `cwd` to its end."""
    return subprocess.run(
        [*(command or place.command), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=place.environment,
        timeout=SECONDS,
        check=False,
    )


def started(place: Place, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """The same, begun: its output, both streams in one, is read by the caller, who also ends it."""
    return subprocess.Popen(
        [*place.command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=place.environment,
    )


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read its output up to a line that contains `text`; that line. Fails at its end."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return line
    raise AssertionError(f"It ended without {text!r}:\n{seen}")
