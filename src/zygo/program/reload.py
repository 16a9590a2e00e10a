"""The warm loader, seen from the command: evaluate the user's file in a child of a process that is already warm.

The process (`evaluator`) is started with the first evaluation and told afterwards which third-party modules to hold.
It is replaced when what is installed beside it changes, and when an evaluation crashed in it, since what it holds may
be what does not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from zygo import errors, model
from zygo.program import headstart

if TYPE_CHECKING:
    from zygo.loader import AppRef, Evaluated

EVALUATE_SECONDS = 120.0
"""For one evaluation. A first `import torch` from a cold disk takes tens of seconds; nothing sane takes longer."""

_ANSWER_LIMIT = 256 * 2**20


class EvaluationCancelledError(errors.Error):
    """The evaluation was given up for a newer one."""


class WarmLoader:
    """Evaluates `ref` again and again. One evaluation at a time; `close` ends every process of it."""

    def __init__(self, ref: AppRef, name: str | None, *, seconds: float = EVALUATE_SECONDS) -> None:
        self._request = {
            "op": "evaluate",
            "ref": {"path": ref.path, "module": ref.module, "object": ref.object},
            "name": name,
            "seconds": seconds,
        }
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._held: frozenset[str] = frozenset()
        self._installed: tuple[tuple[str, int], ...] = ()

    @property
    def pid(self) -> int | None:
        """The warm process; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process already, so that it warms up while the caller does something else."""
        if self._process is None:
            await self._start()

    async def evaluate(self) -> Evaluated:
        """What the file says now.

        Raises what `loader.evaluate` raises, UserCodeError for a file that ends or hangs its interpreter, and
        EvaluationCancelledError after `cancel`.
        """
        from zygo.loader import Evaluated

        if self._process is not None and self._installed != _installed():
            await self.close()
        answer = await self._ask()
        if answer.get("error", {}).get("crashed"):
            # Perhaps the fault of what was held across the fork, or of whoever killed the warm process: only a new
            # one that holds nothing can tell.
            again = bool(self._held) or self._process is None
            await self.close()
            if again:
                answer = await self._ask()
        if "evaluated" in answer:
            return model.decode(Evaluated, answer["evaluated"])
        if answer.get("cancelled"):
            raise EvaluationCancelledError
        raise errors.from_json(answer["error"])

    def cancel(self) -> None:
        """End the running evaluation, if there is one."""
        self._send({"op": "cancel"})

    def preload(self, modules: tuple[str, ...]) -> None:
        """Hold these third-party modules from now on; returns at once, what cannot be imported is left out."""
        fresh = [name for name in modules if name not in self._held]
        if fresh and self._send({"op": "preload", "modules": fresh}):
            self._held = self._held.union(fresh)

    async def close(self) -> None:
        """End the process and all that it started; returns when it is reaped. May be called twice."""
        process, self._process = self._process, None
        writer, self._reader, self._writer = self._writer, None, None
        self._held = frozenset()
        if writer is not None:
            writer.close()
        if process is not None:
            try:
                # Its socket's end makes it kill its child first, and that child's process group.
                await asyncio.wait_for(asyncio.to_thread(process.wait, 2.0), 3.0)
            except (TimeoutError, subprocess.TimeoutExpired):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.to_thread(process.wait)

    async def _ask(self) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            await self.close()
            await self._start()
        assert self._reader is not None
        self._send(self._request)
        try:
            # The process keeps the deadline itself; this one is for when the process does not.
            line = await asyncio.wait_for(self._reader.readline(), self._seconds + 10.0)
        except (TimeoutError, ConnectionResetError, asyncio.CancelledError) as error:
            await self.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            line = b""
        if not line:
            await self.close()
            died = errors.UserCodeError("the process in which the file is loaded died.")
            return {"error": {**errors.to_json(died), "crashed": True}}
        return dict(json.loads(line))

    async def _start(self) -> None:
        self._installed = _installed()
        self._process, ours = headstart.take()
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_ANSWER_LIMIT)

    def _send(self, request: dict[str, Any]) -> bool:
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(json.dumps(request).encode() + b"\n")
        return True


def _installed() -> tuple[tuple[str, int], ...]:
    """Changes whenever a distribution is installed or removed: each adds or drops a folder there."""
    found = []
    for folder in sys.path:
        if folder.endswith(("site-packages", "dist-packages")):
            with contextlib.suppress(OSError):
                found.append((folder, os.stat(folder).st_mtime_ns))
    return tuple(found)
