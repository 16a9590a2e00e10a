"""`zygo app logs`: how times are given, and what is used wrongly."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from typer.testing import CliRunner

from zygo.cli.logs import seconds_of
from zygo.cli.main import app

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "before"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400), ("3d", 259200), (" 1w ", 604800)],
)
def test_a_duration_is_before_now(text: str, before: float) -> None:
    assert seconds_of(text, NOW) == NOW - before


def test_a_time_is_local_unless_it_names_its_zone() -> None:
    zone = timezone(timedelta(hours=2))
    assert seconds_of("2026-11-24T18:00:00+02:00", NOW) == datetime(2026, 11, 24, 18, tzinfo=zone).timestamp()
    assert seconds_of("2026-11-24T16:00Z", NOW) == datetime(2026, 11, 24, 18, tzinfo=zone).timestamp()
    assert seconds_of("2026-11-24 18:00", NOW) == datetime(2026, 11, 24, 18).timestamp()
    assert seconds_of("2026-11-24", NOW) == datetime(2026, 11, 24).timestamp()


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "-2h", "2h ago", "yesterday", "25:00", "1h 30m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat string|hour must be"):
        seconds_of(text, NOW)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--since", "soon"], "neither a duration"),
        (["-f", "--since", "2h"], "excludes --follow"),
        (["-f", "--until", "2h"], "excludes --follow"),
        (["-n", "-1"], "--tail"),
    ],
)
def test_used_wrongly(options: list[str], text: str) -> None:
    done = CliRunner().invoke(app, ["app", "logs", "hello", *options], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert text in done.output
