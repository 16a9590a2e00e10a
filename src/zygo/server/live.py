"""What is live: an app, its functions, and the generations of containers behind them. Their registry is `apps`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

from zygo.server.requests import RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.engine.base import Revision
    from zygo.gateway.admission import Admission
    from zygo.gateway.routes import Endpoint
    from zygo.model import FunctionSpec
    from zygo.scheduler.pool import Pool
    from zygo.sdk.labels import Label
    from zygo.server.app_logs import AppLog
    from zygo.server.environments import Environment
    from zygo.server.log_lines import Line
    from zygo.server.sessions import Session
    from zygo.server.traffic import FunctionTraffic

HOLD_SECONDS = 0.5
"""How long requests wait for code that was just saved, before the old code answers them after all."""

IDLE_SECONDS = 3.0
"""How long a detached app must have had nothing to do before it ends: one call may be about to follow another."""

Kind = Literal["ephemeral", "run", "deployed", "preview"]


class Generation:
    """What one publish made: revisions, and a pool for each function. The last one is active, the others drain."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.functions: dict[str, LiveFunction] = {}
        self.specs: dict[str, FunctionSpec] = {}
        self.pools: dict[str, Pool] = {}
        self.traffic: dict[str, FunctionTraffic] = {}
        self.discard: Callable[[], None] = lambda: None


class LiveFunction:
    """One function for as long as its app has it: its names and its waiting line outlive every revision.

    A web function has a `label` and a `hostname`; the others have none ("") and are called by their `id`. A method has an
    `owner`, the name of the class whose containers and waiting line it shares. `variant` is what a caller said of a further
    pool of the function `variant_of` (see variants.py), `used` the loop's time at which one last asked for it.
    """

    def __init__(
        self,
        identifier: str,
        name: str,
        label: Label | None,
        hostname: str,
        admission: Admission,
        owner: str = "",
    ) -> None:
        self.id = identifier
        self.name = name
        self.label = label
        self.hostname = hostname
        self.admission = admission
        self.port: int | None = None
        self.url = ""
        self.hostname_url = ""
        self.spec: FunctionSpec | None = None
        self.endpoint: Endpoint | None = None
        self.owner = owner
        self.variant: dict[str, Any] | None = None
        self.variant_of = ""
        self.used = 0.0

    @property
    def pool(self) -> str:
        """The name of the pool that serves it."""
        return self.owner or self.name

    @property
    def shown(self) -> str:
        """Its name for people: a variant's is that of what it is a variant of."""
        return self.name.partition("@")[0]


class LiveApp:
    """One app: its functions, and the generations that serve them.

    Arguments:
        key: unique on this server: the id of a session or of a deployed app.
        kind: `ephemeral` lives as long as its session; `run` too, and there may be several of one name, each under
            hostnames of its own; `deployed` until it is stopped; `preview` is a kept revision of a deployed app under
            names of its own.
        environment: the names of its apps are its own.
        version: of the active revision; 0 for an ephemeral one, which counts none.

    While `wake` is set nothing of it runs yet, and it is called whenever a request waits for the app.
    """

    def __init__(
        self,
        key: str,
        name: str,
        kind: Kind,
        log_file: AppLog,
        environment: Environment,
        *,
        session: Session | None = None,
        version: int = 0,
    ) -> None:
        self.key = key
        self.name = name
        self.kind = kind
        self.environment = environment
        self.session = session
        self.version = version
        self.digest = ""
        self.functions: dict[str, LiveFunction] = {}
        self.generations: list[Generation] = []
        self.lock = asyncio.Lock()
        self.said: set[str] = set()
        self.retiring: set[asyncio.Task[None]] = set()
        self.wake: Callable[[], None] | None = None
        self.log_file = log_file
        self._settled = 0
        if session is not None:
            log_file.on_line = self._show
        self.requests = RequestLog(self, log_file, lambda function, text: self.on_log(function, "", "system", text))

    @property
    def suffix(self) -> str:
        """What its hostnames end in, after a dash."""
        return {
            "ephemeral": "dev",
            "run": f"r{self.key[-7:]}",
            "deployed": "",
            "preview": f"v{self.version}",
        }[self.kind]

    @property
    def address(self) -> str:
        """How its functions find each other: by its name, or, while others may have that too, by its id."""
        return self.name if self.session is None else self.key

    @property
    def debug(self) -> bool:
        """Whether callers may see tracebacks: under `serve` the caller is the developer."""
        return self.session is not None

    @property
    def busy(self) -> bool:
        """Whether a request waits or is in flight."""
        return any(f.admission.waiting or f.admission.in_flight for f in self.functions.values())

    @property
    def state(self) -> str:
        """What a list of apps says of it."""
        if self.session is None:
            return self.kind
        if self.kind == "ephemeral":
            return "serving"
        return "detached" if self.session.abandoned.is_set() else "running"

    async def idle(self, stop: asyncio.Event, pending: Callable[[str], int]) -> None:
        """Return once it had nothing to do for IDLE_SECONDS, or `stop` is set. `pending` tells of a function's id how many of its
        spawned inputs have no result."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not stop.is_set():
            if self.busy or any(pending(function.id) for function in self.functions.values()):
                since = loop.time()
            left = since + IDLE_SECONDS - loop.time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(left, IDLE_SECONDS))

    def emit(self, event: dict[str, Any]) -> None:
        """Tell whoever holds the app's session, if somebody does."""
        if self.session is not None:
            self.session.emit(event)

    def settled(self, change: int) -> None:
        """What came of the session's changes up to that number is here: whoever asks to hold for them is late."""
        self._settled = max(self._settled, change)

    def hold_for(self, change: int) -> None:
        """Hold for a change, unless what came of it was faster on its way here."""
        if change > self._settled:
            self.hold()

    def hold(self, seconds: float = HOLD_SECONDS) -> None:
        """Requests wait for new code, for so many seconds at most."""
        for function in self.functions.values():
            function.admission.hold(seconds)

    def release(self) -> None:
        """Requests go on: with the new code if it is active by now, else with the old."""
        for function in self.functions.values():
            function.admission.unhold()

    def note(self, text: str) -> None:
        """Say something of zygo's own, once in the app's life."""
        if text not in self.said:
            self.said.add(text)
            self.on_log("", "", "system", text)

    def on_log(self, function: str, container: str, stream: str, text: str) -> None:
        """One line of output, to the terminal and to the file."""
        self.log_file.write(function, stream, text, container=container)

    def _show(self, line: Line) -> None:
        if self.session is not None and line.stream != "request":  # the terminal gets requests with all their figures
            self.session.log(line.function, line.container, line.stream, line.text)

    def close_log(self) -> None:
        """Close the log file, unless it is another app's (a preview writes to that of its app)."""
        self.requests.close()
        if self.kind != "preview":
            self.log_file.close()
