"""Bodies of requests to the control API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from starlette.requests import Request


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object that is a request's body; an empty one when there is none. Raises InvalidError."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise InvalidError(f"The request's body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidError("The request's body is not a JSON object.")
    return body
