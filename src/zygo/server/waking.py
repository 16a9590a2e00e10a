"""Apps that have names and nothing that runs: woken by the first request that waits for them.

So a server with a hundred deployed apps answers for all of them as soon as it has started, and a kept revision costs nothing
until somebody looks at its preview.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from zygo.errors import ContainerError
from zygo.server.deployments import How

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zygo.model import AppSpec
    from zygo.server.deployments import Deployments
    from zygo.server.live import LiveApp

log = logging.getLogger("zygo.deployed")

RETRY_SECONDS = 5.0
"""After a failed attempt: as long as a function that cannot start refuses (scheduler/pool.py)."""


class Waker:
    """Wakes `app` when called, once at a time. It is the app's `wake` for as long as the app sleeps.

    Arguments:
        spec: gives what the app is; read when it is needed.
    """

    def __init__(self, app: LiveApp, deployments: Deployments, spec: Callable[[], Awaitable[AppSpec]]) -> None:
        self._app = app
        self._deployments = deployments
        self._spec = spec
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._error: ContainerError | None = None

    def __call__(self) -> None:
        """Begin, unless it has begun. After a failure those who wait are refused until it may be tried again."""
        loop = asyncio.get_running_loop()
        if self._task is not None:
            return
        if self._error is not None and loop.time() < self._retry_at:
            # Not at once: the caller has just joined the line that this empties.
            loop.call_soon(self._refuse, self._error)
            return
        self._task = loop.create_task(self._wake(), name=f"wake {self._app.name}")

    async def done(self) -> None:
        """Wake it if it sleeps, and return when that has ended, well or not."""
        if self._app.wake is self:
            self()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Give up a running attempt."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _wake(self) -> None:
        app = self._app
        try:
            how = How(wanted=lambda: app.wake is self)
            result = await self._deployments.publish(app, await self._spec(), self._tell, how)
            self._error = None
            if result["type"] == "published":
                parts = ", ".join(f"{name} {value:.2f} s" for name, value in result["seconds"].items())
                log.info("app %s v%d woke (%s)", app.name, app.version, parts)
            elif result["type"] != "unwanted":
                self._failed(result)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("waking the app %s failed", app.name)
            self._failed({"step": "start", "message": str(error)})
        finally:
            self._task = None

    def _failed(self, result: dict[str, Any]) -> None:
        app = self._app
        what = f"{len(result['sha256'])} of its files are gone" if "sha256" in result else str(result.get("message"))
        text = f"{app.name} v{app.version} cannot be started ({result.get('step', 'files')}): {what}"
        log.error("%s", text)
        for line in [text, *str(result.get("traceback", "")).splitlines()]:
            app.on_log("", "", "system", line)
        self._error = ContainerError(f"{app.name} cannot be started; its log says why.")
        self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        self._refuse(self._error)

    def _refuse(self, error: ContainerError) -> None:
        for function in self._app.functions.values():
            function.admission.fail(error)

    def _tell(self, event: dict[str, Any]) -> None:
        if event.get("type") == "build":
            self._app.on_log("", "", "system", f"{event.get('step')}: {event.get('line')}")
