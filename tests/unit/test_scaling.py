"""Other bounds for a running function: checked before they count."""

from __future__ import annotations

from typing import Any

import pytest

from zygo.errors import InvalidError
from zygo.model import ScalePolicy
from zygo.server.scaling import changed


def test_what_is_given_replaces_what_was() -> None:
    policy = changed("f", ScalePolicy(min_containers=1), {"max_containers": 3, "scaledown_window": 2.5})
    assert policy == ScalePolicy(min_containers=1, max_containers=3, scaledown_window=2.5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"min_containers": -1}, "min_containers=-1"),
        ({"max_containers": 0}, "max_containers=0"),
        ({"buffer_containers": 1.5}, "buffer_containers=1.5"),
        ({"scaledown_window": 0}, "scaledown_window=0"),
        ({"min_containers": True}, "min_containers=True"),
        ({"max_inputs": 3}, "no setting 'max_inputs'"),
        ({"min_containers": 3, "max_containers": 2}, "min_containers=3 is above max_containers=2"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidError, match=f"^Function 'f': .*{text}"):
        changed("Function 'f'", ScalePolicy(), settings)
