"""`zygo deploy`: a persistent app, its revisions, and going back to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2e.deploy_kit import answer, history

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PROGRAM = """
    import zygo

    app = zygo.App("{name}")


    @app.function()
    @zygo.fastapi_endpoint()
    def number():
        return {number}
"""


def test_a_deployed_app_answers_after_its_command(deploys: Place, write: Callable[..., Path]) -> None:
    first = deploys.deploy(write(PROGRAM.format(name="number", number=1)), "--tag", "one")
    assert (first["type"], first["version"]) == ("published", 1)
    assert answer(first["urls"]["number"]) == 1

    same = deploys.deploy(write(PROGRAM.format(name="number", number=1)))
    assert (same["type"], same["version"]) == ("unchanged", 1)

    second = deploys.deploy(write(PROGRAM.format(name="number", number=2)))
    assert (second["version"], second["urls"]) == (2, first["urls"])
    assert answer(first["urls"]["number"]) == 2

    revisions = history(deploys, "number")

    assert [(r["version"], r["active"], r["by"]["tag"]) for r in revisions] == [(2, True, ""), (1, False, "one")]
    assert [answer(r["previews"]["number"]) for r in revisions] == [2, 1]
