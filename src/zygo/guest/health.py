"""Whether a web server of the user's says by HTTP that it is ready: asked from when it listens until it does."""

from __future__ import annotations

import http.client
import time
from typing import Callable

POLL, POLL_LIMIT = 0.005, 0.1
"""Seconds between two questions, doubled up to the limit."""

ANSWER_SECONDS = 5.0
"""How long one answer is waited for: a server may leave the first question lying while it loads, and answer the next one."""


def wait(host: Callable[[], str], port: int, path: str, deadline: float) -> str | None:
    """None once a GET of `path` is answered with 2xx or 3xx; at `deadline` (monotonic) what was said last, for an error."""
    pause, said = POLL, "was not asked"
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return said
        status, said = ask(host(), port, path, min(left, ANSWER_SECONDS))
        if 200 <= status < 400:
            return None
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, POLL_LIMIT)


def ask(host: str, port: int, path: str, seconds: float) -> tuple[int, str]:
    """The status of one GET, 0 for none, and in words what came of it."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request(
            "GET", path, headers={"Host": f"localhost:{port}", "User-Agent": "zygo", "Connection": "close"}
        )
        answer = connection.getresponse()
        return answer.status, f"answered {answer.status} {answer.reason}".rstrip()
    except TimeoutError:
        return 0, f"did not answer for {seconds:.3g} s"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"gave no answer ({str(error) or type(error).__name__})"
    finally:
        connection.close()
