"""`python -m benchmarks [NAME...] [--quick] [--only APPLICATION] [--json FILE]`; the names are NAMES."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import applications, conditions
from benchmarks.plan import FULL, QUICK, Plan

NAMES = (
    "cold",
    "warm",
    "reload",
    "burst",
    "memory",
    "idle",
    "rollouts",
    "restart",
    "calls",
    "spawn",
    "tls",
    "applications",
)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, print it, write the JSON. Exit status 1 when a floor was missed in a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure zygo beside bare uvicorn.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it works, proves nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, samples and conditions there")
    parser.add_argument("--only", action="append", default=[], metavar="APPLICATION", help="of applications: this one")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    if options.only and options.names != ["applications"]:
        parser.error("--only is for the applications: python -m benchmarks applications --only NAME")
    try:
        applications.chosen(tuple(options.only))
    except ValueError as error:
        parser.error(str(error))
    plan = dataclasses.replace(QUICK if options.quick else FULL, only=tuple(options.only))
    facts = conditions.describe()
    print(conditions.sentence(facts), flush=True)
    results = []
    for name in options.names or NAMES:
        results.append(_one(name, plan))
    if options.json:
        options.json.write_text(json.dumps({"conditions": facts, "quick": options.quick, "results": results}, indent=1))
    missed = [c["what"] for result in results for c in result["comparisons"] if c["floor_met"] is False]
    return 1 if missed and not options.quick else 0


def _one(name: str, plan: Plan) -> dict[str, Any]:
    before = conditions.others()
    result = importlib.import_module(f"benchmarks.{name}").run(plan)
    after = conditions.others()
    print("\n" + "\n".join(result.lines()))
    disturbed = max(before, after) > conditions.BUSY
    note = "; DISTURBED, repeat it on a quiet machine" if disturbed else ""
    print(f"  in use by others: {before:.0%} before, {after:.0%} after{note}", flush=True)
    return {**result.as_json(), "others_before": before, "others_after": after, "disturbed": disturbed}


if __name__ == "__main__":
    sys.exit(main())
