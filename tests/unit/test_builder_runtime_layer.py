"""The guest's packages: one line for each, and a folder per Python version and set of lines."""

from __future__ import annotations

import pytest

from zygo.builder import runtime_layer
from zygo.builder.interpreters import SUPPORTED

NEEDED = {"a2wsgi", "cloudpickle", "fastapi", "httptools", "python-multipart", "uvicorn", "uvloop", "websockets"}


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_version_has_a_range_for_every_package(version: str) -> None:
    lines = runtime_layer.requirements(version)
    assert {line.split(">")[0] for line in lines} == NEEDED
    assert all("," in line and "<" in line for line in lines)


def test_the_folder_follows_version_and_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    before = runtime_layer.folder_name("3.11")
    assert before == runtime_layer.folder_name("3.11")
    assert before.startswith("3.11-")
    monkeypatch.setattr(runtime_layer, "REQUIREMENTS", (*runtime_layer.REQUIREMENTS, "six>=1,<2"))
    assert runtime_layer.folder_name("3.11") != before


def test_a_compiler_is_not_needed_at_first() -> None:
    assert "--only-binary" in runtime_layer.arguments("3.11", "/x", wheels_only=True)
    assert "--only-binary" not in runtime_layer.arguments("3.11", "/x", wheels_only=False)
