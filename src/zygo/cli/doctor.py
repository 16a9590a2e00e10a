"""`zygo doctor`: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from typing import Annotated, Any

import typer

from zygo import errors


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Try what zygo needs of this machine; exit 1 when something that it cannot do without is missing."""
    from zygo.cli import output

    checks = _checks()
    out = output.make(sys.stdout, sys.stderr)
    if as_json:
        out.line(json.dumps([_record(check) for check in checks], indent=2))
    else:
        for check in checks:
            _show(check, out)
    if any(not check.ok and check.level == "error" for check in checks):
        raise typer.Exit(1)


def _checks() -> list[Any]:
    try:
        module = importlib.import_module("zygo.server.doctor")
    except ModuleNotFoundError as error:
        if error.name != "zygo.server.doctor":
            raise
        raise errors.UnsupportedError("This build of zygo has no checks of the machine.") from None
    return list(module.check())


def _record(check: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(check) and not isinstance(check, type):
        return dataclasses.asdict(check)
    return {key: getattr(check, key) for key in ("name", "ok", "level", "detail", "mend")}


def _show(check: Any, out: Any) -> None:
    if check.ok:
        out.success(f"{check.name}: {check.detail}" if check.detail else check.name)
        return
    mark, style = ("✗", "red") if check.level == "error" else ("!", "yellow")
    out.line(f"{mark} {check.name}: {check.detail}", style)
    for line in str(check.mend or "").splitlines():
        out.line(f"    {line}")
