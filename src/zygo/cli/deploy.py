"""`zygo deploy`: a persistent app. The deploy itself is `program.deploying`; this shows it."""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zygo import loader
from zygo.program import deploying, progress
from zygo.sdk import where
from zygo.sdk.parameters import check_name

if TYPE_CHECKING:
    from zygo.cli.output import Output


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
    if options.name is not None:
        check_name("App", options.name)
    wanted = deploying.Deploy(
        loader.parse_ref(options.ref, as_module=options.module),
        f"zygo deploy {'-m ' if options.module else ''}{shlex.quote(options.ref)} --name {{name}}",
        options.name,
        options.tag,
        options.strategy,
        options.verbose,
    )
    began = time.monotonic()
    with output.working(f"Deploying {options.ref}..."):
        upload, result = await deploying.deploy(wanted, output)
    show(result, upload.app.name, time.monotonic() - began, output)
    return result


def show(result: dict[str, Any], name: str, took: float, output: Output) -> None:
    """What became of a change of the deployed app `name`. Raises the error of one that failed."""
    if result["type"] == "failed":
        raise deploying.failed(result)
    if result["type"] == "unchanged":
        output.success(f"{name} v{result['version']} is deployed already, and nothing has changed.")
    else:
        place = f" to {environment}" if (environment := where.environment()) else ""
        output.success(f"Deployed {name} v{result['version']}{place} in {took:.2f} s{progress.where(result)}.")
    for function in result.get("functions", []):
        progress.show_function(output, function)
