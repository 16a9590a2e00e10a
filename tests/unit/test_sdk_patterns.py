"""File patterns mean what they mean in a .dockerignore file."""

from __future__ import annotations

from pathlib import Path

import pytest

from zygo.errors import InvalidError
from zygo.sdk.patterns import NON_PYTHON_FILES, FilePatternMatcher


@pytest.mark.parametrize(
    ("patterns", "matching", "others"),
    [
        (["*.txt"], ["a.txt"], ["deep/a.txt", "a.txtx"]),
        (["**/*.txt"], ["a.txt", "deep/a.txt", "x/y/a.txt"], ["a.py"]),
        (["docs"], ["docs", "docs/a", "docs/b/c"], ["docs2", "x/docs"]),
        (["docs/"], ["docs/a"], []),
        (["/docs", "./lib"], ["docs/a", "lib/b"], []),
        (["**/node_modules"], ["node_modules/x", "a/node_modules/b/c"], ["a/node_modules2"]),
        (["a/**"], ["a/b", "a/b/c"], ["b"]),
        (["a/**/z"], ["a/z", "a/b/z", "a/b/c/z"], ["a/b"]),
        (["?.py", "[a-c]x", "[!a-c]y"], ["q.py", "bx", "zy"], ["qq.py", "dx", "ay"]),
        (["*", "!keep.txt"], ["a", "b/c"], ["keep.txt"]),
        (["*.md", "!README.md", "README.md"], ["README.md"], []),
        (["\\*.txt"], ["*.txt"], ["a.txt"]),
        (["a+b.txt"], ["a+b.txt"], ["aab.txt"]),
    ],
)
def test_patterns(patterns: list[str], matching: list[str], others: list[str]) -> None:
    matcher = FilePatternMatcher(*patterns)
    assert [path for path in matching + others if matcher(Path(path))] == matching
    assert [path for path in matching + others if (~matcher)(path)] == others


def test_not_twice_is_itself() -> None:
    matcher = FilePatternMatcher("*.py")
    assert ~~matcher is matcher
    assert NON_PYTHON_FILES("a.txt")
    assert not NON_PYTHON_FILES("deep/a.py")


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ignore").write_text("# comment\n\n*.log\n!keep.log\n")
    assert FilePatternMatcher.from_file(tmp_path / "ignore").patterns == ("*.log", "!keep.log")


def test_what_is_no_pattern() -> None:
    with pytest.raises(InvalidError):
        FilePatternMatcher(Path("a"))  # type: ignore[arg-type]
