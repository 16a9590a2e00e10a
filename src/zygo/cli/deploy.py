"""`zygo deploy`: a persistent app. Evaluate the file, send what the server lacks, have it make and switch to a revision."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zygo import errors, loader, model
from zygo.cli import progress
from zygo.cli.place import place
from zygo.cli.publish import UPLOAD_ROUNDS
from zygo.cli.reload import WarmLoader
from zygo.cli.sources import Digests, collect, put, send
from zygo.sdk import launch
from zygo.sdk.parameters import check_name
from zygo.version import version

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.cli.sources import Upload
    from zygo.sdk.client import Client

GIT_SECONDS = 5.0
"""For each question to git: what it says only goes into the history, and a repository on a dead disk must not hold a deploy."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. `tag` is a word for the history, `strategy` "rolling" or "recreate"."""

    ref: str
    module: bool = False
    name: str | None = None
    tag: str = ""
    strategy: str = "rolling"
    verbose: bool = False


def run(options: Options, output: Output) -> dict[str, Any]:
    """Deploy; the last event: `published` or `unchanged`. Raises what makes it fail, after nothing was changed."""
    return asyncio.run(deploy(options, output))


async def deploy(options: Options, output: Output) -> dict[str, Any]:
    """See `run`."""
    ref = loader.parse_ref(options.ref, as_module=options.module)
    if options.name is not None:
        check_name("App", options.name)
    began = time.monotonic()
    connecting = asyncio.create_task(_connect(output), name="connect")
    asking = asyncio.create_task(asyncio.to_thread(provenance, ref, options.tag), name="git")
    try:
        with output.working(f"Loading {options.ref}..."):
            upload = await _evaluate(ref, options)
        for text in upload.app.warnings:
            output.warning(text)
        client = await connecting
        by = await asking
    finally:
        for task in (connecting, asking):
            task.cancel()
    try:
        with output.working(f"Deploying {upload.app.name}..."):
            result = await _send(client, upload, by, options, output)
    finally:
        await client.aclose()
    show(result, upload.app.name, time.monotonic() - began, output)
    return result


def show(result: dict[str, Any], name: str, took: float, output: Output) -> None:
    """What became of a change of the deployed app `name`. Raises the error of one that failed."""
    if result["type"] == "failed":
        active = result.get("version")
        what = f"Nothing was changed: v{active} goes on." if active else "Nothing was deployed."
        text = f"{progress.reason(result)}\n{what}"
        # The message of a failed build holds what the tool said already.
        raise errors.from_json(
            {"kind": result.get("kind", ""), "message": text, "traceback": str(result.get("traceback") or "")}
        )
    if result["type"] == "unchanged":
        output.success(f"{name} v{result['version']} is deployed already, and nothing has changed.")
    else:
        output.success(f"Deployed {name} v{result['version']} in {took:.2f} s{progress.where(result)}.")
    for function in result.get("functions", []):
        progress.show_function(output, function)


async def _evaluate(ref: loader.AppRef, options: Options) -> Upload:
    warm = WarmLoader(ref, options.name)
    try:
        evaluated = await warm.evaluate()
    finally:
        await warm.close()
    if not evaluated.named and not options.name:
        name = evaluated.app.name
        command = f"zygo deploy {'-m ' if options.module else ''}{shlex.quote(options.ref)} --name {shlex.quote(name)}"
        raise errors.InvalidError(
            f"The app in {options.ref} has no name, and a deployed app needs one. Write zygo.App({name!r}), or give it "
            f"one here:\n\n    {command}"
        )
    return await asyncio.to_thread(collect, evaluated, Digests())


async def _connect(output: Output) -> Client:
    client = await launch.connect(place(), say=output.hint)
    try:
        for text in (await client.status()).get("warnings", []):
            output.warning(text)
    except BaseException:
        await client.aclose()
        raise
    return client


async def _send(
    client: Client, upload: Upload, by: model.Provenance, options: Options, output: Output
) -> dict[str, Any]:
    body = {"app": model.encode(upload.app), "by": model.encode(by), "strategy": options.strategy}
    await send(client, upload, set())
    for _ in range(UPLOAD_ROUNDS):
        last = await progress.change(output, client, upload.app.name, "deployments", body, verbose=options.verbose)
        if last.get("type") != "missing":
            return last
        await put(client, upload, [str(item) for item in last.get("sha256", [])])
    raise errors.InternalFailure("the server keeps asking for content that it was sent")


def provenance(ref: loader.AppRef | None, tag: str = "") -> model.Provenance:
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
