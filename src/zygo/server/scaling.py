"""Other bounds for a function's containers, as a caller may set them while it runs: checked, pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from zygo.model import ScalePolicy

SETTINGS = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")


def changed(owner: str, policy: ScalePolicy, settings: dict[str, Any]) -> ScalePolicy:
    """`policy` with `settings`. Raises InvalidError with `owner`, the value and the mend."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise InvalidError(f"{owner}: the autoscaler has no setting {name!r}; it has {', '.join(SETTINGS)}.")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "scaledown_window":
            if not number or value <= 0:
                raise InvalidError(f"{owner}: {name}={value!r} must be seconds above 0.")
        elif not number or value != int(value) or value < (1 if name == "max_containers" else 0):
            raise InvalidError(f"{owner}: {name}={value!r} must be a whole number of containers.")
    made = replace(policy, **settings)
    if made.max_containers is not None and made.min_containers > made.max_containers:
        raise InvalidError(
            f"{owner}: min_containers={made.min_containers} is above max_containers={made.max_containers}. "
            f"Give both, or lower min_containers."
        )
    return made
