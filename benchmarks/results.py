"""What a benchmark finds: samples, figures made of them, comparisons; as a table and as JSON."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """The samples of one thing measured, all in `unit`. `failed` counts attempts that gave no sample."""

    what: str
    unit: str
    samples: tuple[float, ...]
    failed: int = 0
    note: str = ""

    @property
    def p50(self) -> float:
        return statistics.median(self.samples)

    def percentile(self, percent: float) -> float:
        """The smallest sample that at least `percent` of them do not exceed (nearest rank)."""
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def as_json(self) -> dict[str, Any]:
        """The figures and every sample."""
        return {
            "what": self.what,
            "unit": self.unit,
            "n": len(self.samples),
            "failed": self.failed,
            "p50": self.p50,
            "p90": self.percentile(90),
            "p99": self.percentile(99),
            "min": min(self.samples),
            "max": max(self.samples),
            "note": self.note,
            "samples": list(self.samples),
        }


@dataclass(frozen=True)
class Comparison:
    """One number beside what was promised. `floor` and `goal` are bounds in the direction of `better`."""

    what: str
    value: float
    unit: str = ""
    better: str = "lower"
    floor: float | None = None
    goal: float | None = None

    def meets(self, bound: float | None) -> bool | None:
        """Whether the value is as good as `bound`; None when there is no such bound."""
        if bound is None:
            return None
        return self.value <= bound if self.better == "lower" else self.value >= bound

    def as_json(self) -> dict[str, Any]:
        """The value, its bounds and whether it meets them."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "better": self.better,
            "floor": self.floor,
            "floor_met": self.meets(self.floor),
            "goal": self.goal,
            "goal_met": self.meets(self.goal),
        }


@dataclass
class Result:
    """What one benchmark found, under which settings of both sides."""

    name: str
    title: str
    settings: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "name": self.name,
            "title": self.title,
            "settings": self.settings,
            "figures": [figure.as_json() for figure in self.figures],
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
        }

    def lines(self) -> list[str]:
        """The same as text, without the samples."""
        lines = [f"{self.name}: {self.title}"]
        lines += [f"  {side}: {text}" for side, text in self.settings.items()]
        width = max((len(figure.what) for figure in self.figures), default=0)
        head = f"  {'':<{width}}  {'unit':>6} {'n':>6} {'p50':>10} {'p90':>10} {'p99':>10} {'max':>10} {'failed':>7}"
        lines += [head] if self.figures else []
        for figure in self.figures:
            values = (figure.p50, figure.percentile(90), figure.percentile(99), max(figure.samples))
            columns = " ".join(f"{short(value):>10}" for value in values)
            row = f"  {figure.what:<{width}}  {figure.unit:>6} {len(figure.samples):>6} {columns} {figure.failed:>7}"
            lines.append(row + (f"  {figure.note}" if figure.note else ""))
        lines += [f"  {_sentence(comparison)}" for comparison in self.comparisons]
        return lines


def short(value: float) -> str:
    """Three digits that matter, no exponent: 0.042, 8.51, 112, 21034."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _sentence(comparison: Comparison) -> str:
    text = f"{comparison.what}: {short(comparison.value)} {comparison.unit}".rstrip()
    for name, bound in (("floor", comparison.floor), ("goal", comparison.goal)):
        if bound is not None:
            sign = "<=" if comparison.better == "lower" else ">="
            text += f"  [{name} {sign} {short(bound)}: {'met' if comparison.meets(bound) else 'MISSED'}]"
    return text


def per(samples: list[float], factor: float = 1.0) -> tuple[float, ...]:
    """`samples` times `factor`, as a Figure takes them."""
    return tuple(sample * factor for sample in samples)
