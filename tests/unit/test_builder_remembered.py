"""Which interpreter a version was is remembered only as long as nothing that would be asked has changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zygo.builder import remembered
from zygo.builder.interpreters import Interpreter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "installed" / "one" / "bin" / "python3.11"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_it_is_recalled_until_a_candidate_changes(tmp_path: Path, program: Path) -> None:
    memory, extra = tmp_path / "memory.json", (tmp_path / "installed",)
    found = Interpreter(program, "3.11.2", program.parents[1], shared=False)
    state = remembered.state_of("3.11", extra)
    assert remembered.recall(memory, "3.11", state) is None, "nothing is known yet"
    remembered.note(memory, "3.11", state, found)
    assert remembered.recall(memory, "3.11", state) == found
    assert remembered.recall(memory, "3.12", state) is None

    other = tmp_path / "installed" / "two" / "bin" / "python3.11"
    other.parent.mkdir(parents=True)
    other.write_text("")
    assert remembered.state_of("3.11", extra) != state, "another program would be asked"
    other.unlink()
    assert remembered.state_of("3.11", extra) == state

    os.utime(program, ns=(1, 1))
    assert remembered.recall(memory, "3.11", state) is None, "it was replaced"


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"3.11": {"path": 7}}'])
def test_a_damaged_memory_is_none(tmp_path: Path, program: Path, text: str) -> None:
    memory = tmp_path / "memory.json"
    memory.write_text(text)
    assert remembered.recall(memory, "3.11", "x") is None
    remembered.note(memory, "3.11", "x", Interpreter(program, "3.11.2", program.parent))
    assert remembered.recall(memory, "3.11", "x") is not None
