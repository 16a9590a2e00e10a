"""The contract of an engine: where containers run, and what it promises to the scheduler.

An engine prepares a revision (its code is imported, nothing runs), starts containers of its functions, and stops them.
What a container says to the server is untrusted; what an engine says is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from zygo.model import FunctionSpec

OnLog = Callable[[str, str, str, str], None]
"""Called with (function, container id, stream, line). The stream is stdout, stderr or system (zygo's own words); function
and container are empty for what belongs to the whole app."""


@dataclass(frozen=True)
class RevisionPlan:
    """All that an engine needs for one group of functions that share image, environment and network.

    Attributes:
        id: unique; also the name of its directory of files.
        app: the app's name; `address` how its functions call each other.
        image: the image's hash; revisions of one image share a zygote.
        python: the interpreter of the image's environment.
        binds: host directories that its containers must see, read-only, at the same path.
        path_tail: (guest package, runtime layer), put at the end of the import path.
        files: host directory whose tree mirrors the absolute paths of the revision's own files.
        functions: what runs; `module` and `app_variable` say where they are defined.
        env: environment of the revision; `image_env` that of the image.
        environment: the name of the environment that the app is in.
        urls: of each web function of the app, by name.
        network: "isolated", "host" or "none".
        preload: top-level third-party modules worth importing ahead.
        debug: tracebacks may be shown to callers (`zygo serve`).
        startup_timeout: seconds for the import.
    """

    id: str
    app: str
    image: str
    python: Path
    binds: tuple[Path, ...]
    path_tail: tuple[Path, Path]
    files: Path
    module: str
    app_variable: str
    functions: tuple[FunctionSpec, ...]
    address: str = ""
    env: dict[str, str] = field(default_factory=dict)
    image_env: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    urls: dict[str, str] = field(default_factory=dict)
    network: str = "isolated"
    preload: tuple[str, ...] = ()
    debug: bool = False
    startup_timeout: float = 300.0
    environment: str = ""


class Container(Protocol):
    """One container.

    `ready` is done when it accepts requests at `socket_path`, and fails with ContainerError (with the user's traceback)
    when it cannot; `exited` gives the exit status once nothing of it is left, and never fails.
    """

    id: str
    function: str
    socket_path: str

    @property
    def ready(self) -> asyncio.Future[None]: ...

    @property
    def exited(self) -> asyncio.Future[int]: ...

    async def stop(self, grace: float) -> int:
        """Drain for up to `grace` seconds, kill, return the exit status once it is gone. May be called twice."""

    def reason(self) -> str:
        """Why it ended, in words; empty while it runs."""


class Revision(Protocol):
    """A prepared revision. Its zygote may die at any time; `start` makes a new one then."""

    plan: RevisionPlan
    notes: tuple[str, ...]
    modules: tuple[str, ...]

    async def start(self, function: str, variant: FunctionSpec | None = None) -> Container:
        """Start a container of `function`, or of a variant of it; returns when it was forked, before it is ready.

        Raises ContainerError.
        """

    async def retire(self) -> None:
        """Stop its zygote; its containers must have been stopped before. May be called twice."""


class Engine(Protocol):
    """Where containers run."""

    warnings: tuple[str, ...]
    sandboxed: bool

    async def prepare(self, plan: RevisionPlan, on_log: OnLog) -> Revision:
        """Import the revision's code. Raises ContainerError with the user's traceback when that fails."""

    async def close(self) -> None:
        """Kill everything and return once it is gone. May be called twice."""
