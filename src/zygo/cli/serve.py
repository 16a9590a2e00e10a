"""`zygo serve`: an ephemeral app that lives as long as this command and follows every save.

evaluate the file  +  find or start the server
  -> session (the app's life) -> publish -> URLs
       events of the session   -> terminal
       a change on disk        -> hold -> evaluate -> publish, or say why not and release
  session lost -> start the server again -> a new session with the latest revision
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zygo import errors, loader
from zygo.cli import report
from zygo.cli import share as sharing
from zygo.cli.live import Live
from zygo.cli.publish import Publisher
from zygo.program.place import client as server_client
from zygo.program.place import place
from zygo.sdk import distant, launch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zygo.cli.output import Output
    from zygo.program.sources import Upload
    from zygo.sdk.client import Client, Session

RETRY_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Before each attempt to get a lost server back; after the last one the command gives up."""

STABLE_SECONDS = 30.0
"""A session that lived this long starts the attempts anew."""

LINGER_SECONDS = 0.1
SLOW_SECONDS = 5.0
"""Before a first import that does not end is mentioned."""

LOST_SECONDS = 1.0
"""Before what a cut has interrupted is done again."""

END_SECONDS = 5.0
"""For everything that has to end at Ctrl-C; it normally takes some 20 ms."""


@dataclass(frozen=True)
class Options:
    """What the user asked for; `timeout` in seconds."""

    ref: str
    module: bool = False
    name: str | None = None
    reload: bool = True
    force: bool = False
    timeout: float | None = None
    verbose: bool = False
    share: bool = False


def run(options: Options, output: Output) -> int:
    """Serve until told to stop; the exit code. Raises what makes serving impossible."""
    ref = loader.parse_ref(options.ref, as_module=options.module)
    if options.share:
        sharing.find_way()  # before anything starts
    return asyncio.run(_Serve(options, ref, output).run())


class _Serve:
    def __init__(self, options: Options, ref: loader.AppRef, output: Output) -> None:
        self._options, self._ref, self._output = options, ref, output
        self._what = options.ref
        self._file = os.path.abspath(ref.path) if ref.path else options.ref
        self._publisher = Publisher(output, verbose=options.verbose)
        self._last_error = ""
        self._served = False
        self._shares = sharing.Shares(sharing.find_way(), output) if options.share else None
        self._waits_for_saves = options.reload and output.interactive
        self._change = 0
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """`_serve` until it ends, the time is up, or someone wants it to end."""
        self._live = Live(self._ref, self._options.name, reload=self._options.reload)
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._output.on_broken = self._stop.set
        self._output.watch_reader(loop)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        # A closed terminal sends it more than once (the kernel, the shell): no reason to end in haste.
        loop.add_signal_handler(signal.SIGHUP, self._stop.set)
        serving = asyncio.create_task(self._serve(), name="serve")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({serving, stopping}, timeout=self._options.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                # What was printed just before is still on its way here: a pipe, the server, a socket.
                await asyncio.wait({serving}, timeout=LINGER_SECONDS)
            if serving.done():
                return serving.result()
            self._say_goodbye()
            return 0
        finally:
            ending = {serving, stopping, *self._telling}
            for task in ending:
                task.cancel()
            await asyncio.wait(ending, timeout=END_SECONDS)
            if self._shares is not None:
                await self._shares.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._live.close(), END_SECONDS)

    def _signalled(self) -> None:
        # The first one ends in order, the second one at once.
        if self._stop.is_set():
            if (pid := self._live.warm_pid) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            os._exit(130)
        self._stop.set()

    def _say_goodbye(self) -> None:
        if self._output.interactive:
            self._output.line()  # the terminal has just shown ^C
        self._output.line(f"Stopped. {self._publisher.app or self._what} is no longer served.")

    async def _serve(self) -> int:
        # First of all, since it takes the longest; the imports of the connection run beside it.
        await self._live.start()
        connecting = asyncio.create_task(self._connect(replace=True), name="connect")
        try:
            await self._load()
            client = await connecting
        finally:
            connecting.cancel()
        attempts = 0
        try:
            while True:
                began = time.monotonic()
                try:
                    return await self._session(client, force=self._options.force and attempts == 0)
                except (errors.ConnectionError, errors.TimeoutError) as error:
                    attempts = 1 if time.monotonic() - began > STABLE_SECONDS else attempts + 1
                    if attempts >= len(RETRY_SECONDS):
                        raise
                    self._output.warning(f"{str(error).rstrip('.')}. Starting the server again.")
                await client.aclose()
                client = await self._reconnect(RETRY_SECONDS[attempts])
        finally:
            await client.aclose()

    async def _reconnect(self, pause: float) -> Client:
        await asyncio.sleep(pause)
        try:
            return await self._connect(replace=False)
        except (errors.ConnectionError, errors.TimeoutError) as error:
            self._output.warning(str(error))
            # Handed on as a client that fails at its first request: the attempts are counted in one place.
            return server_client()

    async def _connect(self, *, replace: bool) -> Client:
        client = await launch.connect(place(), replace=replace, say=self._output.hint)
        if replace:
            status = await client.status()
            for text in distant.warnings(status, client):
                self._output.warning(text)
            gateway = status.get("gateway", {})
            wanted, port = gateway.get("requested_port"), gateway.get("port")
            if wanted and wanted != port:
                self._output.hint(f"Port {wanted} is taken, so the gateway uses {port}.")
        return client

    async def _load(self) -> None:
        """The first evaluation. At a terminal a file that fails is waited for, since its author is about to mend it."""
        while True:
            slow = asyncio.get_running_loop().call_later(
                SLOW_SECONDS, self._output.hint, f"Still importing {self._what} ..."
            )
            try:
                self._accept(await self._live.evaluate())
                return
            except errors.Error as error:
                if not self._waits_for_saves or isinstance(error, errors.AppReferenceError):
                    raise
                self._complain(error, f"Waiting for {self._what} to be saved; Ctrl-C ends this.")
            finally:
                slow.cancel()
            await self._live.changed()

    def _accept(self, upload: Upload) -> None:
        self._last_error = ""
        for text in upload.app.warnings:
            if text not in self._publisher.warned:
                self._publisher.warned.add(text)
                self._output.warning(text)
        self._publisher.latest = upload

    def _complain(self, error: errors.Error, after: str) -> None:
        text = report.headline(error) + report.details(error)
        if text != self._last_error:  # the same failure again says nothing new
            self._last_error = text
            report.show(error, self._output)
            self._output.hint(after)

    async def _session(self, client: Client, *, force: bool) -> int:
        """One session from its beginning to its end; the exit code if it ended for good."""
        assert self._publisher.latest is not None
        app = self._publisher.latest.app.name
        async with client.session(app=app, file=self._file, force=force) as session:
            tasks = {
                asyncio.create_task(self._events(session), name="events"),
                asyncio.create_task(self._updates(client, session), name="updates"),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                return next(iter(done)).result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _events(self, session: Session) -> int:
        async for event in session.events():
            kind = event.get("type")
            if kind == "log":
                self._output.log(event)
            elif kind == "request":
                self._output.request(event)
            elif kind == "warning":
                self._output.warning(str(event.get("text", "")))
            elif kind == "ended":
                if event.get("code") == "replaced":
                    raise errors.ConnectionError("The server was replaced by another version")
                self._output.error(f"The app was ended: {event.get('reason', 'the server says no reason')}")
                return 1
        raise errors.ConnectionError("The server went away")

    async def _updates(self, client: Client, session: Session) -> int:
        """Publish the latest state, then every change of it."""
        publisher = self._publisher
        publisher.begin(client, session.id)
        changed: asyncio.Task[None] | None = None
        seen: float | None = None
        running: asyncio.Task[bool] | None = asyncio.create_task(publisher.publish(), name="publish")
        try:
            while True:
                changed = changed or asyncio.create_task(self._live.changed(), name="changed")
                await asyncio.wait({changed, running} if running else {changed}, return_when=asyncio.FIRST_COMPLETED)
                if running is not None and running.done():
                    published = await self._outcome(running, session)
                    if published is None:
                        running = asyncio.create_task(publisher.publish(seen), name="publish")
                        continue
                    running = None
                    if published:
                        self._serving()
                        if self._shares is not None:
                            await self._shares.follow(publisher.ports)
                    elif not publisher.outdated and not self._served and not self._waits_for_saves:
                        return 1
                outdated = running is None and publisher.outdated
                if changed.done() or outdated:
                    changed = None if changed.done() else changed
                    seen = time.monotonic()
                    if await self._follow(client, session):
                        await publisher.make_way(running)
                        running = asyncio.create_task(publisher.publish(seen), name="publish")
        finally:
            for task in (changed, running):
                if task is not None:
                    task.cancel()
                    await asyncio.wait({task}, timeout=END_SECONDS)

    async def _outcome(self, publishing: asyncio.Task[bool], session: Session) -> bool | None:
        """Whether it is live; None when a connection that is there again was lost on the way, so that nobody knows."""
        try:
            return publishing.result()
        except (errors.ConnectionError, errors.TimeoutError):
            if not session.resumable:
                raise
        await asyncio.sleep(LOST_SECONDS)  # the session may not have noticed yet
        await session.healthy()
        return None

    def _serving(self) -> None:
        upload = self._publisher.latest
        if upload is not None:
            self._live.preload(upload.app.third_party)
        if not self._served:
            self._served = True
            self._output.line("⚡ Serving... hit Ctrl-C to stop!", "bold")
            if self._options.reload:
                self._output.hint(_watching(self._live.watched))
            if self._live.deaf:
                self._output.warning(
                    "This system sends no file events (its limit of watches is reached): changes are looked for "
                    "twice a second. Raise fs.inotify.max_user_watches and max_user_instances."
                )

    async def _follow(self, client: Client, session: Session) -> bool:
        """A change was seen: whether it has to be published. New requests wait meanwhile.

        Nobody waits for the answers to what is said of it here: to a server elsewhere that would be a way there and back more
        until the change is live. The server tells by the change's number what is late.
        """
        self._change += 1
        change = self._change
        self._tell(client.hold(session.id, change))
        before = self._publisher.latest
        try:
            upload = await self._live.evaluate()
        except errors.Error as error:
            self._tell(client.release(session.id, change))
            if self._publisher.outdated and not self._served and not self._waits_for_saves:
                raise  # nothing answers yet, and what was waited for cannot be served
            self._complain(error, "The old code keeps answering.")
            return False
        # An equal state is not worth a revision, unless the last attempt at it failed.
        if before is not None and before.app == upload.app and not self._publisher.failed:
            if self._last_error:
                self._last_error = ""
                self._output.success(f"{self._what} loads again, and is as it was.")
            self._tell(client.release(session.id, change))
            return False
        self._accept(upload)
        self._publisher.change = change
        return True

    def _tell(self, request: Coroutine[Any, Any, None]) -> None:
        telling = asyncio.create_task(_quietly(request), name="tell")
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)


async def _quietly(request: Coroutine[Any, Any, None]) -> None:
    # Holding is a courtesy with a time limit of its own; if the server is gone the session's end says so.
    with contextlib.suppress(errors.Error):
        await request


def _watching(paths: list[str]) -> str:
    shown = paths[:8]
    more = f" and {len(paths) - len(shown)} more" if len(paths) > len(shown) else ""
    return f"  Watching {', '.join(shown)}{more}"
