"""Parameters as options of `zygo run`: what each annotation takes, what cannot be an option."""

from __future__ import annotations

import datetime
from typing import Any, Literal, Optional

import pytest

from zygo.cli.arguments import read
from zygo.errors import InvalidError


def typed(name: str, count: int = 3, ratio: float = 0.5, dry_run: bool = False, loud: bool = True) -> None:
    """Say it."""


def moments(
    at: datetime.datetime,
    day: Optional[datetime.date] = None,  # noqa: UP045
    other: datetime.datetime | None = None,
) -> None: ...


def choices(mode: Literal["fast", "slow"], level: Literal[1, 2] = 1) -> None: ...


def bare(first, second=2, third=True, fourth=None) -> None: ...  # type: ignore[no-untyped-def]


def as_text(count: int, name: Any = None) -> None: ...


def words(*args: str) -> None: ...


@pytest.mark.parametrize(
    ("raw", "given", "expected"),
    [
        (typed, "--name x", {"name": "x", "count": 3, "ratio": 0.5, "dry_run": False, "loud": True}),
        (
            typed,
            "--name=--x --count -4 --ratio 1e3 --dry-run --no-loud",
            {"name": "--x", "count": -4, "ratio": 1000.0, "dry_run": True, "loud": False},
        ),
        (
            moments,
            "--at 2026-01-02T03:04:05+00:00 --day 2026-01-02",
            {
                "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
                "day": datetime.date(2026, 1, 2),
                "other": None,
            },
        ),
        (choices, "--mode slow --level 2", {"mode": "slow", "level": 2}),
        (bare, "--first 1 --no-third", {"first": "1", "second": 2, "third": False, "fourth": None}),
        (as_text, "--count 7 --name 5", {"count": 7, "name": "5"}),
    ],
)
def test_each_annotation_takes_its_own_words(raw: Any, given: str, expected: dict[str, Any]) -> None:
    assert read(raw, "zygo run x.py", given.split()) == ((), expected)


def test_star_takes_every_word_as_it_is() -> None:
    assert read(words, "zygo run x.py", ["a", "--b", "-h"]) == (("a", "--b", "-h"), {})
    assert read(words, "zygo run x.py", ["--", "a"]) == (("a",), {})
    assert read(words, "zygo run x.py", []) == ((), {})


@pytest.mark.parametrize(
    ("raw", "given", "said"),
    [
        (typed, "", "--name"),
        (typed, "--name x --count y", "--count"),
        (typed, "--name x --nam y", "--nam"),
        (typed, "--name x extra", "extra"),
        (choices, "--mode third", "not one of fast, slow"),
        (moments, "--at yesterday", "not a time such as"),
    ],
)
def test_words_that_do_not_fit_are_named(raw: Any, given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read(raw, "zygo run x.py", given.split())
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_help_shows_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read(typed, "zygo run x.py", ["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "Say it." in shown
    assert "--dry-run, --no-dry-run" in shown


def test_what_cannot_be_an_option_is_refused_with_a_mend() -> None:
    def lists(names: list[str]) -> None: ...

    def several(value: int | str) -> None: ...

    def both(first: int, *rest: str) -> None: ...

    def anything(**options: str) -> None: ...

    for raw, said in (
        (lists, "names: list"),
        (several, "value: "),
        (both, "keep one kind"),
        (anything, r"\*\*options"),
    ):
        with pytest.raises(InvalidError, match=said):
            read(raw, "zygo run x.py", [])
