"""End to end: programs as users write them, served by the real command."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from e2e.deploy_kit import stop_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place


@pytest.fixture
def deploys(place: Place) -> Iterator[Place]:
    """The session's server; what a test deployed there is stopped after it."""
    yield place
    stop_all(place)


@pytest.fixture
def deploys_alone(fresh_place: Place) -> Iterator[Place]:
    """A place of one test's own; what was deployed there is stopped after it. It must have a server by then, or get one."""
    yield fresh_place
    stop_all(fresh_place)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a program (dedented) into a folder of this test's own; its path."""

    def make(text: str, name: str = "program.py") -> Path:
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    return make
