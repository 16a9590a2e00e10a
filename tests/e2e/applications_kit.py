"""The applications below examples/, served, and what drives them: a browser, and clients with packages of their own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from e2e.examples_kit import EXAMPLES, calls, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zygo.testing.harness import Place, Serve

APPLICATIONS = EXAMPLES / "applications"


@contextlib.contextmanager
def served(place: Place, name: str, file: str = "serve.py") -> Iterator[Serve]:
    """`zygo serve` of the application's serve.py, once all that its docstring shows has been seen to be so."""
    path = APPLICATIONS / name / file
    first, *others = calls(path)
    assert first.command == f"zygo serve applications/{name}/{file}", "the first command of an example serves it"
    with place.serve(path, cwd=APPLICATIONS / name) as serve:
        for call in others:
            check(call, serve)
        yield serve
