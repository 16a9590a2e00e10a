"""One request for a function: its inputs in order, and the frames of its answer.

Two sides meet here: the event loop, which reads the request, keeps the time and sends frames; and whoever runs the user's
code, in another thread or on the same loop. Each input has one outcome: who claims it first says it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

from zygo.guest import tracebacks
from zygo.sdk import frames, remote

if TYPE_CHECKING:
    import asyncio

ROOM_BYTES = 256 * 1024
"""Bytes of frames that wait for a slow reader before a generator is paused."""

PATIENCE = 0.05
"""Seconds that one input of several may take before those behind it are given back to be sent elsewhere."""

_KINDS = {"timeout": frames.TIMEOUT, "serialization": frames.FATAL, "deserialization": frames.FATAL}
"""Of records, the frames that are not plain failures."""


class Job:
    """One request.

    Arguments:
        loop: the event loop of the request.
        inputs: (index, input id, pickled arguments) of each; of a large one the stream that they come on.
        call_id: of them all; origin: the Python version that wrote them.
        source: the directory of the user's files, where tracebacks begin.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inputs: list[tuple[int, str, Any]],
        call_id: str,
        origin: str,
        source: str,
    ) -> None:
        self.call_id = call_id
        self.origin = origin
        self.source = source
        self.stopped = ""
        self.done = False
        self.began = 0.0
        self.index = -1
        self.handle: Any = None
        """What the runner needs to interrupt the input: a thread's id or a task, while user code runs."""
        self.lock = threading.Lock()
        self.single = len(inputs) == 1
        self._inputs = deque(inputs)
        self._claimed = True
        self._loop = loop
        self._out: list[bytes] = []
        self._size = 0
        self._room = threading.Event()
        self._room.set()
        self._room_waiter: asyncio.Future[None] | None = None
        self._waker: asyncio.Future[None] | None = None
        self._signalled = False

    # -- the side that runs the user's code -----------------------------------------------------------------------------

    def next(self) -> tuple[str, Any] | None:
        """The next input's id and arguments; None when there is none, or the request was stopped."""
        with self.lock:
            if self.stopped or not self._inputs:
                return None
            self.index, identifier, data = self._inputs.popleft()
            self._claimed = False
            self.began = time.monotonic()
            return identifier, data

    def begin_code(self) -> None:
        """The arguments are read: from here on the time is the function's."""
        self.began = time.monotonic()

    def settle(self, kind: bytes, data: bytes) -> None:
        """Say the current input's outcome, unless it has one."""
        took = int((time.monotonic() - self.began) * 1e6)
        with self.lock:
            if self._claimed:
                return
            self._claimed = True
            last = not self._inputs
        self._emit(frames.frame(kind, self.index, data, took), last=last)

    def settle_failure(self, made: dict[str, Any]) -> None:
        """Say that the current input failed."""
        self.settle(_KINDS.get(made["kind"], frames.FAILURE), remote.dump(made))

    def settle_exception(self, error: BaseException) -> None:
        """Say that the user's code raised `error`, and print its traceback as any program would."""
        text = tracebacks.describe(error, self.source)[0]
        print(text, end="", file=sys.stderr, flush=True)
        self.settle_failure(remote.record(error, text))

    def part(self, data: bytes) -> None:
        """In a thread: send a piece of a large value, and wait while the reader is slow."""
        self.wait_for_room()
        self._emit(frames.frame(frames.PART, self.index, data), last=False)

    def forget_parts(self) -> None:
        """The pieces that were sent are void."""
        self._emit(frames.frame(frames.FORGET, self.index), last=False)

    def item(self, data: bytes) -> bool:
        """Send one item of a generator; False when nobody wants more."""
        with self.lock:
            if self._claimed:
                return False
        self._emit(frames.frame(frames.VALUE, self.index, data), last=False)
        return True

    def wait_for_room(self) -> None:
        """In a thread: wait while the reader is slow."""
        self._room.wait()

    async def room(self) -> None:
        """On the loop: wait while the reader is slow."""
        if not self._room.is_set():
            self._room_waiter = self._loop.create_future()
            await self._room_waiter

    def finish(self) -> None:
        """Nothing of it runs any more. May be called twice."""
        if not self.done:
            self.done = True
            self._signal()

    # -- the loop's side ----------------------------------------------------------------------------------------------

    async def output(self) -> bytes:
        """The frames that came since the last call; b"" once it is done and all was taken."""
        while not self._out:
            if self.done:
                return b""
            self._waker = self._loop.create_future()
            if not self._out and not self.done:
                await self._waker
            self._waker = None
        self._signalled = False
        out, self._out = self._out, []
        self._size = 0
        if not self._room.is_set():
            self._room.set()
            if self._room_waiter is not None and not self._room_waiter.done():
                self._room_waiter.set_result(None)
        return out[0] if len(out) == 1 else b"".join(out)

    def stop(self, reason: str, made: dict[str, Any] | None) -> bool:
        """Stop the request: the current input ends with the failure `made`, the others go back. False when it is done."""
        with self.lock:
            if self.done or self.stopped:
                return False
            self.stopped = reason
            claimed, self._claimed = self._claimed, True
        self._room.set()
        self.give_back()
        if made is not None and not claimed:
            took = int((time.monotonic() - self.began) * 1e6)
            kind = _KINDS.get(made["kind"], frames.FAILURE)
            self._emit(frames.frame(kind, self.index, remote.dump(made), took), last=False)
        return True

    def give_back(self) -> None:
        """Return the inputs that were not begun."""
        with self.lock:
            rest = list(self._inputs)
            self._inputs.clear()
        for index, _, _ in rest:
            self._emit(frames.frame(frames.RETURNED, index), last=False)

    @property
    def running_for(self) -> float:
        """Seconds since the current input began."""
        return time.monotonic() - self.began

    def _emit(self, data: bytes, *, last: bool) -> None:
        self._out.append(data)
        self._size += len(data)
        if self._size > ROOM_BYTES:
            self._room.clear()
        if last:
            self.done = True
        self._signal()

    def _signal(self) -> None:
        # One wake-up for however many frames the other side makes before the loop's turn comes.
        if not self._signalled:
            self._signalled = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._signalled = False
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)


Interrupt = Callable[[Job], None]
