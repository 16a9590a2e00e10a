"""Sends an evaluated app as a new revision and shows what becomes of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from zygo import errors, model
from zygo.program import progress, sending

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.program.sources import Upload
    from zygo.sdk.client import Client

BUILD_PATIENCE_SECONDS = 2.0
"""A revision whose image is already replaced by another one is given up after this; others are short."""


class Publisher:
    """What the current session gets. `latest` is the newest evaluated state, `failed` whether it did not go live,
    `outdated` whether that was because a file changed while it was sent, `change` the number of the change on disk that it came
    of."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self.latest: Upload | None = None
        self.failed = self.outdated = False
        self.warned: set[str] = set()
        self.app = ""
        self.change = 0
        self.ports: dict[str, int | None] = {}
        self._output, self._verbose = output, verbose
        self._client: Client | None = None
        self._session = ""
        self._known: set[str] = set()
        self._urls: dict[str, str] = {}
        self._sending: Upload | None = None
        self._began = 0.0

    def begin(self, client: Client, session: str) -> None:
        """From now on publish to this session."""
        self._client, self._session, self._known = client, session, set()

    async def publish(self, seen: float | None = None) -> bool:
        """Publish `latest`; whether it is live now. A failure has been shown; `seen` is when the change was.

        Raises ConnectionError or TimeoutError when the server is gone.
        """
        assert self._client is not None
        assert self.latest is not None
        upload = self._sending = self.latest
        self._began = time.monotonic()
        self.app = upload.app.name
        live = self.outdated = False
        try:
            with self._output.working(f"Publishing {self.app}..."):
                result = await self._send(self._client, upload)
            live = self._settle(result, self._began if seen is None else seen, update=seen is not None)
        except (errors.ConnectionError, errors.TimeoutError):
            raise
        except errors.LoadError as error:
            # A file changed or vanished meanwhile: it is evaluated anew, and what comes of that is shown.
            self.outdated = True
            if self._verbose:
                self._output.warning(str(error))
        except errors.Error as error:
            self._failed(str(error), str(getattr(error, "traceback", "")), seen is not None)
        finally:
            self._sending = None
            if self.latest is upload:
                self.failed = not live
        return live

    async def make_way(self, running: asyncio.Task[bool] | None) -> None:
        """Let the running publication end, unless it builds an image that is outdated by now."""
        if running is None:
            return
        if self._sending and self.latest and _images(self._sending) != _images(self.latest):
            left = BUILD_PATIENCE_SECONDS - (time.monotonic() - self._began)
            await asyncio.wait({running}, timeout=max(0.0, left))
            if not running.done():
                self._output.line("The image changed again; the running build is given up.", "dim")
                running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()

    async def _send(self, client: Client, upload: Upload) -> dict[str, Any]:
        app, change = model.encode(upload.app), self.change
        return await sending.publish(
            client,
            upload,
            self._known,
            lambda: progress.follow_all(
                self._output, client.publish(self._session, app, change), verbose=self._verbose
            ),
        )

    def _settle(self, event: dict[str, Any], seen: float, *, update: bool) -> bool:
        if event.get("type") == "failed":
            self._failed(progress.reason(event), str(event.get("traceback") or ""), update)
            return False
        functions = event.get("functions", [])
        took = time.monotonic() - seen
        where = progress.where(event) if self._verbose or not update else ""
        urls = {str(f["name"]): str(f["url"]) for f in functions}
        self.ports = {str(f["name"]): f.get("port") for f in functions if f["url"]}
        if update:
            self._output.success(f"Updated {self.app} in {took * 1000:.0f} ms{where}.")
        else:
            self._output.success(f"Created {self.app} in {took:.2f} s{where}.")
        if urls != self._urls:
            for function in functions:
                progress.show_function(self._output, function)
            self._urls = urls
        return True

    def _failed(self, message: str, traceback: str, update: bool) -> None:
        self._output.error(message, traceback)
        if update:
            self._output.hint("The old code keeps answering.")


def _images(upload: Upload) -> set[str]:
    return {repr(function.image) for function in upload.app.functions}
