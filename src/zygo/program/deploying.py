"""Deploys: evaluate the file, send what the server lacks, have it make and switch to a revision."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zygo import errors, model
from zygo.program import progress, sending
from zygo.program.connecting import connect
from zygo.program.reload import WarmLoader
from zygo.program.sources import Digests, collect
from zygo.version import version

if TYPE_CHECKING:
    from zygo.program.screen import Screen
    from zygo.program.sources import Upload
    from zygo.sdk.client import Client
    from zygo.sdk.reference import AppRef

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
        evaluated = await warm.evaluate()
    finally:
        await warm.close()
    if not evaluated.named and not wanted.name:
        name = evaluated.app.name
        call = wanted.naming.format(name=shlex.quote(name) if wanted.shell else repr(name))
        raise errors.InvalidError(
            f"The app in {wanted.ref.path or wanted.ref.module} has no name, and a deployed app needs one. Write "
            f"zygo.App({name!r}), or give it one here:\n\n    {call}"
        )
    return await asyncio.to_thread(collect, evaluated, Digests())


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
