"""The applications below examples/, served, and what drives them: a browser, and clients with packages of their own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from e2e.examples_kit import EXAMPLES, calls, check
from zygo.testing.harness import SECONDS, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from zygo.testing.harness import Place, Serve

BYTE_CODE_SECONDS = 300.0
"""A new image's packages are compiled in the background; some are large, and the machine may be busy."""

APPLICATIONS = EXAMPLES / "applications"


@contextlib.contextmanager
def served(place: Place, name: str, seconds: float = SECONDS) -> Iterator[Serve]:
    """`zygo serve` of the application's serve.py, once all that its docstring shows has been seen to be so.

    `seconds` is for its image, of which some are hundreds of megabytes.
    """
    path = f"applications/{name}/serve.py"
    first, *others = calls(EXAMPLES / path)
    assert first.command == f"zygo serve {path}", "the first command of an example serves it"
    with place.serve(path, cwd=EXAMPLES, wait=False) as serve:
        serve.wait_for(r"Serving\.\.\.", seconds)
        for call in others:
            check(call, serve)
        yield serve
    place.settle(BYTE_CODE_SECONDS)


def run_client(packages: list[str], program: str, *arguments: str) -> str:
    """Run a program in an environment of its own that has these packages; what it prints. Fails with all it said.

    For clients that the tests' environment does not have: uv makes the environment, and the next run finds it in its cache.
    """
    uv = find_uv_bin()
    command = [uv, "run", "--quiet", "--no-project", "--python", sys.executable]
    command += [part for package in packages for part in ("--with", package)]
    environment = {name: value for name, value in clean_environment().items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [*command, "python", "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a fresh Chromium, which reaches this machine alone. Skips the test without one."""
    from playwright.sync_api import sync_playwright

    path = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.localhost"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--no-proxy-server", "--disable-dev-shm-usage", offline]
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        page = chromium.new_page()
        page.set_default_timeout(60_000)
        yield page
        chromium.close()
