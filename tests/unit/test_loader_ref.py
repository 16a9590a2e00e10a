"""References: what `file.py::app` means, and the corrected command for what means nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zygo.errors import AppReferenceError
from zygo.loader import AppRef, parse_ref

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "as_module", "ref"),
    [
        ("hello.py", False, AppRef(path="hello.py")),
        ("dir/hello.py::web", False, AppRef(path="dir/hello.py", object="web")),
        ("hello.py::app.f", False, AppRef(path="hello.py", object="app.f")),
        ("/a b/hello.py", False, AppRef(path="/a b/hello.py")),
        ("pkg.mod", True, AppRef(module="pkg.mod")),
        ("pkg.mod::app", True, AppRef(module="pkg.mod", object="app")),
    ],
)
def test_references(text: str, as_module: bool, ref: AppRef) -> None:
    assert parse_ref(text, as_module=as_module) == ref


@pytest.mark.parametrize(
    ("text", "as_module", "command"),
    [
        ("hello.py:app", False, "zygo serve hello.py::app"),
        ("hello.py::", False, "zygo serve hello.py::app"),
        ("hello.py::my-app", False, "zygo serve hello.py::app"),
        ("", False, "zygo serve hello.py::app"),
        ("pkg.mod::app", False, "zygo serve -m pkg.mod::app"),
        ("hello", False, "zygo serve -m hello"),
        ("hello.txt::app", False, "zygo serve -m hello.txt::app"),
        ("my-hello", False, "zygo serve my-hello.py"),
        ("pkg/mod.py::app", True, "zygo serve -m pkg.mod::app"),
        ("pkg/mod", True, "zygo serve -m pkg.mod"),
        ("my-pkg", True, "zygo serve -m package.module"),
    ],
)
def test_mistakes_show_the_command_that_works(
    text: str, as_module: bool, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AppReferenceError) as caught:
        parse_ref(text, as_module=as_module)
    expected = "zygo serve hello.py" if text == "hello" else command
    assert str(caught.value).endswith(f"Use: {expected}")


def test_what_is_there_makes_a_better_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.py").write_text("")
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "main.py").write_text("")
    for text, expected in (
        ("hello::app", "lacks its ending. Use: zygo serve hello.py::app"),
        ("notes.md", "is not a Python file"),
        ("proj", "is a directory. Use: zygo serve proj/main.py"),
    ):
        with pytest.raises(AppReferenceError) as caught:
            parse_ref(text)
        assert expected in str(caught.value)


def test_another_command_may_ask() -> None:
    with pytest.raises(AppReferenceError, match=r"zygo deploy a\.py::app"):
        parse_ref("a.py:app", command="zygo deploy")


def test_a_reference_as_text() -> None:
    assert str(AppRef(path="a.py", object="app")) == "a.py::app"
    assert str(AppRef(module="pkg.mod")) == "-m pkg.mod"
