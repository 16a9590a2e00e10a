"""Deploys: evaluate the file, send what the server lacks, have it make and switch to a revision."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zygo import errors, model
from zygo.program import progress, sending
from zygo.program.connecting import connect
from zygo.program.reload import WarmLoader
from zygo.program.sources import Digests, collect
from zygo.version import version

if TYPE_CHECKING:
    from zygo.loader import Evaluated
    from zygo.program.screen import Screen
    from zygo.program.sources import Upload
    from zygo.sdk.client import Client
    from zygo.sdk.reference import AppRef

ROUNDS = 3
"""Evaluations at most, when files are saved during each of them."""

_CLOCK_TICK_NS = 10_000_000
"""A file's times are those of the kernel's last tick."""

GIT_SECONDS = 5.0
"""For each question to git: what it says only goes into the history, and a repository on a dead disk must not hold a deploy."""


@dataclass(frozen=True)
class Deploy:
    """What is asked for. `tag` is a word for the history, `strategy` "rolling" or "recreate"; `naming` says how to give an
    app without a name one, with its place as {name}, in the `shell` or in Python; `environment` None is the one that this
    process means."""

    ref: AppRef
    naming: str
    name: str | None = None
    tag: str = ""
    strategy: str = "rolling"
    verbose: bool = False
    shell: bool = True
    environment: str | None = None


async def deploy(wanted: Deploy, screen: Screen) -> tuple[Upload, dict[str, Any]]:
    """Deploy; the app, and the last event: `published`, `unchanged` or `failed`.

    Raises what the file's evaluation raises, InvalidError for an app without a name, ConnectionError.
    """
    connecting = asyncio.create_task(connect(screen), name="connect")
    asking = asyncio.create_task(asyncio.to_thread(provenance, wanted.ref, wanted.tag), name="git")
    try:
        upload = await _evaluate(wanted)
        for text in upload.app.warnings:
            screen.warning(text)
        client = await connecting
        if wanted.environment is not None:
            client.environment = wanted.environment
        by = await asking
    except BaseException:
        if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
            await connecting.result().aclose()
        raise
    finally:
        for task in (connecting, asking):
            task.cancel()
    try:
        return upload, await _send(client, upload, by, wanted, screen)
    finally:
        await client.aclose()


def failed(event: dict[str, Any]) -> errors.Error:
    """The error of a deploy that failed."""
    active = event.get("version")
    return sending.failure(event, f"Nothing was changed: v{active} goes on." if active else "Nothing was deployed.")


async def _evaluate(wanted: Deploy) -> Upload:
    warm = WarmLoader(wanted.ref, wanted.name)
    try:
        evaluated, upload = await _settled(warm)
    finally:
        await warm.close()
    if not evaluated.named and not wanted.name:
        name = evaluated.app.name
        call = wanted.naming.format(name=shlex.quote(name) if wanted.shell else repr(name))
        raise errors.InvalidError(
            f"The app in {wanted.ref.path or wanted.ref.module} has no name, and a deployed app needs one. Write "
            f"zygo.App({name!r}), or give it one here:\n\n    {call}"
        )
    return upload


async def _settled(warm: WarmLoader) -> tuple[Evaluated, Upload]:
    """An evaluation, and its files in the state in which it saw them: one that was saved meanwhile may have been executed in one
    state and listed in another, so it is made again, until two in a row list the same or nothing is written any more."""
    before: Upload | None = None
    for left in reversed(range(ROUNDS)):
        began = time.time_ns() - _CLOCK_TICK_NS
        evaluated = await warm.evaluate()
        upload = await asyncio.to_thread(collect, evaluated, Digests())
        written = await asyncio.to_thread(_written_since, upload, began)
        if not written or (before is not None and before.app.files == upload.app.files):
            break
        before = upload
        if not left:
            text = f"{written} was written during each of {ROUNDS} evaluations: what is deployed may be another state of it."
            upload = replace(upload, app=replace(upload.app, warnings=(*upload.app.warnings, text)))
    return evaluated, upload


def _written_since(upload: Upload, began: int) -> str:
    """A file that was written since `began`, in ns since the epoch, or is gone; "" when there is none."""
    for path in upload.content.values():
        try:
            if os.stat(path).st_ctime_ns >= began:
                return path
        except OSError:
            return path
    return ""


async def _send(client: Client, upload: Upload, by: model.Provenance, wanted: Deploy, screen: Screen) -> dict[str, Any]:
    body = {"app": model.encode(upload.app), "by": model.encode(by), "strategy": wanted.strategy}
    return await sending.publish(
        client,
        upload,
        set(),
        lambda: progress.change(screen, client, upload.app.name, "deployments", body, verbose=wanted.verbose),
    )


def provenance(ref: AppRef | None, tag: str = "") -> model.Provenance:
    """Who changes an app, and from what: the user, this version, and the commit that the program's folder is at."""
    folder = os.path.dirname(os.path.abspath(ref.path)) if ref is not None and ref.path else os.getcwd()
    commit = _git(folder, "rev-parse", "HEAD") if ref is not None else ""
    dirty = bool(commit and _git(folder, "status", "--porcelain", "--untracked-files=no"))
    return model.Provenance(client_version=version(), deployed_by=_user(), commit=commit, dirty=dirty, tag=tag)


def _git(folder: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a uid without a name
        return str(os.getuid())
