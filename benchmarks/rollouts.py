"""rollouts: deploys and rollbacks under load. Is a request lost, or answered by an older revision after a newer one?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from benchmarks.platform import Platform, wait_for
from benchmarks.results import Comparison, Figure, Result, per
from benchmarks.steady import LOST_LIMIT, Steady

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.plan import Plan

CONNECTIONS = 32

REQUESTS_SECONDS = 600.0
"""For the share of requests that belongs to one change, however slow the machine is."""

PROGRAM = """\
import time
import zygo

app = zygo.App("rollouts", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))
LOADED_AT = time.time_ns()  # once in each revision, later than in every one before: also after a rollback
NUMBER = {number}

@app.function(max_containers=1)
@zygo.concurrent(max_inputs=64)
@zygo.fastapi_endpoint()
async def loaded_at():
    return LOADED_AT
"""


class Change(NamedTuple):
    """One deploy or rollback. Seconds of the whole command, and of the server's part of it; moments by time.monotonic()."""

    began: float
    ended: float
    server: float

    @property
    def command(self) -> float:
        return self.ended - self.began


def run(plan: Plan) -> Result:
    """Deploys of changed code without load, then deploys and rollbacks spread over the requests."""
    result = Result("rollouts", f"{plan.deploys} deploys and {plan.rollbacks} rollbacks under load")
    result.settings = {
        "zygo": "zygo deploy --json, code-only changes of one endpoint with max_containers=1, 64 requests per container",
        "load": f"{CONNECTIONS} keep-alive connections, GET, each asks again when it is answered",
    }
    with Platform() as platform:
        program = _Program(platform, platform.sources / "rollouts.py")
        url = httpx.URL(program.deploy()["functions"][0]["url"])
        quiet = [program.changed() for _ in range(max(5, plan.deploys // 2))]
        with Steady(url.port or 80, url.netloc.decode(), connections=CONNECTIONS) as load:
            deploys, rollbacks = _changes(program, load, plan)
        platform.zygo("app", "stop", "rollouts", "--yes")
    _report(result, load, quiet, deploys, rollbacks)
    return result


class _Program:
    """The app: each deploy is of another text."""

    def __init__(self, platform: Platform, path: Path) -> None:
        self._platform, self._path, self._number = platform, path, 0

    def deploy(self) -> dict[str, Any]:
        self._number += 1
        self._path.write_text(PROGRAM.format(number=self._number))
        return self._platform.zygo("deploy", str(self._path))

    def changed(self) -> Change:
        """One deploy, measured."""
        began = time.monotonic()
        return _change(began, self.deploy())

    def rolled_back(self) -> Change:
        """Back to the revision before the active one."""
        began = time.monotonic()
        return _change(began, self._platform.zygo("app", "rollback", "rollouts"))


def _change(began: float, result: dict[str, Any]) -> Change:
    if result["type"] != "published":
        raise RuntimeError(f"nothing was published: {result}")
    return Change(began, time.monotonic(), sum(result["seconds"].values()))


def _changes(program: _Program, load: Steady, plan: Plan) -> tuple[list[Change], list[Change]]:
    """Each begins when its share of the requests is answered, so that all of them are spread over the changes."""
    count = plan.deploys + plan.rollbacks
    deploys: list[Change] = []
    rollbacks: list[Change] = []
    for number in range(1, count + 1):
        back = number * plan.rollbacks // count > (number - 1) * plan.rollbacks // count
        (rollbacks if back else deploys).append(program.rolled_back() if back else program.changed())
        share = number * plan.rollout_requests // count
        wait_for(
            f"{share} answers",
            lambda wanted=share: len(load.answers) >= wanted,  # type: ignore[misc]
            REQUESTS_SECONDS,
            lambda: "; ".join(load.lost[:5]) if len(load.lost) >= LOST_LIMIT else "",
        )
    return deploys, rollbacks


def _report(result: Result, load: Steady, quiet: list[Change], deploys: list[Change], rollbacks: list[Change]) -> None:
    changes = sorted([*deploys, *rollbacks])
    during: list[float] = []
    between: list[float] = []
    at = 0
    for answer in sorted(load.answers, key=lambda each: each.began):
        while at < len(changes) and changes[at].ended < answer.began:
            at += 1
        touched = at < len(changes) and answer.began + answer.seconds >= changes[at].began
        (during if touched else between).append(answer.seconds)
    seconds = max(a.began + a.seconds for a in load.answers) - min(a.began for a in load.answers)
    versions = len({answer.version for answer in load.answers})
    result.figures = [
        Figure("deploy of changed code, no load, whole command", "ms", per([c.command for c in quiet], 1e3)),
        Figure("the same, server's part", "ms", per([c.server for c in quiet], 1e3)),
        Figure("deploy under load, whole command", "ms", per([c.command for c in deploys], 1e3)),
        Figure("the same, server's part", "ms", per([c.server for c in deploys], 1e3)),
        Figure("rollback under load, whole command", "ms", per([c.command for c in rollbacks], 1e3)),
        Figure("the same, server's part", "ms", per([c.server for c in rollbacks], 1e3)),
        Figure("request while a change is made", "ms", per(during, 1e3), len(load.lost)),
    ]
    if between:
        result.figures.append(Figure("request between changes", "ms", per(between, 1e3)))
    result.comparisons = [
        Comparison("requests answered", len(load.answers), "", "higher"),
        Comparison("requests lost", len(load.lost), "", floor=0),
        Comparison("answered by an older revision after a newer one, on one connection", load.went_back, "", floor=0),
        Comparison("revisions that answered", versions, "", "higher", floor=len(changes) + 1),
        Comparison("requests per second, changes included", len(load.answers) / seconds, "1/s", "higher"),
        Comparison("deploy of changed code, no load, p50", result.figures[0].p50, "ms", goal=400),
        Comparison("rollback under load, p50", result.figures[4].p50, "ms", goal=1000),
    ]
