"""Deploys under load: no request is lost, and no connection is answered by an older version after a newer one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
from benchmarks.steady import Steady

from e2e.deploy_kit import good, versions
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PROGRAM = """
import time
import zygo

app = zygo.App("loaded")
LOADED_AT = time.time_ns()  # once in each revision, later than in every one before: also after a rollback
NUMBER = {number}


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=64)
@zygo.fastapi_endpoint()
async def version():
    return LOADED_AT
"""

CONNECTIONS = 32


def test_no_request_is_lost_and_none_goes_back(deploys: Place, write: Callable[..., Path]) -> None:
    """10 deploys and 2 rollbacks, the containers at their limit."""
    url = httpx.URL(deploys.deploy(write(PROGRAM.format(number=0)))["urls"]["version"])
    with Steady(url.port or 80, url.netloc.decode(), connections=CONNECTIONS) as load:
        for number in range(1, 13):
            if number in (5, 10):
                good(deploys, "app", "rollback", "loaded", "v2")
            else:
                deploys.deploy(write(PROGRAM.format(number=number)))
            began = time.monotonic()
            until(lambda at=began: load.lost or load.answers[-1].began > at, what="answers of it")  # type: ignore[misc]
    assert load.lost == []
    assert load.went_back == 0
    assert len({answer.version for answer in load.answers}) == 13
    assert versions(deploys, "loaded") == list(range(13, 0, -1))
    assert len(load.answers) > 13 * CONNECTIONS
