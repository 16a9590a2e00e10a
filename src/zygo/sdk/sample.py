"""placeholder"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from zygo.model import WebSpec


def of(func: Callable[..., Any], web: WebSpec) -> str:
    return ""
