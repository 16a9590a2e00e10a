"""What a container needs to know of one function or method, whatever its decorators were."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from zygo.model import BatchPolicy

if TYPE_CHECKING:
    from zygo.model import WebSpec
    from zygo.sdk.function import Function


@dataclass(frozen=True)
class Entry:
    """One function: `raw` is what is called (bound, if it is a method). `timeout` in seconds."""

    name: str
    raw: Callable[..., Any]
    web: WebSpec | None
    timeout: float
    max_inputs: int
    batch: BatchPolicy | None = None

    @property
    def is_generator(self) -> bool:
        """Whether it yields its results."""
        raw = inspect.unwrap(self.raw)
        return inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)


def entry_of(function: Function, variant: dict[str, Any], raw: Callable[..., Any] | None = None) -> Entry:
    """The entry of a function of the app, with what the message about a variant of it says instead."""
    said = over(variant)
    batch = BatchPolicy(**said["batch"]) if "batch" in said else function.batch
    return Entry(
        name=function.name,
        raw=raw or function.raw,
        web=function.web,
        timeout=said.get("timeout") or function.options.timeout,
        max_inputs=said.get("max_inputs") or (batch.max_batch_size if batch else function.policy.max_inputs),
        batch=batch,
    )


def over(variant: dict[str, Any]) -> dict[str, Any]:
    """What of a variant's message concerns how its code is run; the rest is its parameters and environment."""
    return {name: variant[name] for name in ("timeout", "max_inputs", "batch") if variant.get(name)}
