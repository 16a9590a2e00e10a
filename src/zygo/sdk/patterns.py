"""Patterns that pick files, with the meaning of a .dockerignore file: `*`, `?`, `[a-z]`, `**` and `!`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Callable, Union

from zygo.errors import InvalidError

Ignore = Union[Sequence[str], Callable[[Path], bool]]
"""What `ignore=` takes: patterns, or a function of a path relative to the added directory."""


def _translate(pattern: str) -> str:
    """A regular expression for one pattern; what lies below a match is matched too."""
    out, i = "", 0
    while i < len(pattern):
        char = pattern[i]
        if pattern.startswith("**", i):
            i += 2
            if pattern.startswith("/", i):
                out, i = out + "(?:.*/)?", i + 1
            else:
                out += ".*"
            continue
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and "]" in pattern[i + 2 :]:
            end = pattern.index("]", i + 2)
            content = pattern[i + 1 : end].replace("\\", "\\\\")
            out += "[^" + content[1:] + "]" if content[0] in "!^" else "[" + content + "]"
            i = end
        elif char == "\\" and i + 1 < len(pattern):
            i += 1
            out += re.escape(pattern[i])
        else:
            out += re.escape(char)
        i += 1
    return out + "(?:/.*)?"


class FilePatternMatcher:
    """Tells whether a relative path matches patterns written as in a .dockerignore file.

    A later pattern overrides an earlier one, `!` in front excludes, `**` spans directories, and a pattern that matches
    a directory matches all below it. `~matcher` matches the rest.

        image.add_local_dir("data", "/data", ignore=~zygo.FilePatternMatcher("**/*.csv"))
    """

    def __init__(self, *patterns: str) -> None:
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise InvalidError(f"A file pattern is a text such as '**/*.txt', not {pattern!r}.")
        self.patterns = tuple(patterns)
        self._rules = [(not p.startswith("!"), re.compile(_translate(_clean(p)))) for p in patterns if _clean(p)]

    @classmethod
    def from_file(cls, file_path: str | Path) -> FilePatternMatcher:
        """The patterns of a file such as .dockerignore: one a line, `#` starts a comment. Raises OSError."""
        lines = Path(file_path).read_text().splitlines()
        return cls(*(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")))

    @property
    def can_prune(self) -> bool:
        """Whether nothing below a matched directory can be wanted."""
        return all(positive for positive, _ in self._rules)

    def __call__(self, path: PurePath | str) -> bool:
        text = PurePath(path).as_posix()
        matched = False
        for positive, rule in self._rules:
            if positive != matched and rule.fullmatch(text):
                matched = positive
        return matched

    def __invert__(self) -> _Inverted:
        return _Inverted(self)

    def __repr__(self) -> str:
        return f"FilePatternMatcher({', '.join(map(repr, self.patterns))})"


class _Inverted:
    def __init__(self, matcher: FilePatternMatcher) -> None:
        self._matcher = matcher

    def __call__(self, path: PurePath | str) -> bool:
        return not self._matcher(path)

    def __invert__(self) -> FilePatternMatcher:
        return self._matcher

    def __repr__(self) -> str:
        return f"~{self._matcher!r}"


def _clean(pattern: str) -> str:
    text = pattern.strip().lstrip("!").strip()
    while text.startswith(("./", "/")):
        text = text[2:] if text.startswith("./") else text[1:]
    return text.rstrip("/")


def matcher(ignore: Ignore) -> Callable[[Path], bool]:
    """What `ignore=` means, as a function. Raises InvalidError when it means nothing."""
    if callable(ignore):
        return ignore
    if isinstance(ignore, str):
        raise InvalidError(f"ignore={ignore!r} is one text; give a list: ignore=[{ignore!r}].")
    return FilePatternMatcher(*ignore)


NON_PYTHON_FILES = ~FilePatternMatcher("**/*.py")
