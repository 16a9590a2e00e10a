"""Every example runs, and does what its docstring says: the commands there are executed, their output compared.

How a docstring is read is in examples_kit. The whole applications are in test_applications.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.examples_kit import EXAMPLES, calls, check, serve_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zygo.testing.harness import Place, Serve

PROGRAMS = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/__init__.py")])


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an example that a test may change."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__py*")))

    return make


# First, while no other app is on the shared server.
def test_each_module_of_a_package_is_followed(place: Place, copy: Callable[[str], Path]) -> None:
    folder = copy("bookshop").parent
    with place.serve("bookshop.api", "-m", cwd=folder) as serve:
        books = folder / "bookshop" / "books.json"
        books.write_text(books.read_text().replace("Rayuela", "Hopscotch"))
        serve.wait_for("Updated bookshop")
        assert serve.get("search", params={"author": "Cortázar"}).json() == {"books": ["Hopscotch"]}


@pytest.fixture(scope="module")
def all_served(shared_place: Place) -> Iterator[dict[Path, Serve]]:
    """Every example, all served at once: that takes a fraction of the time, and apps do not get in each other's way."""
    with contextlib.ExitStack() as stack:
        yield {
            path: stack.enter_context(shared_place.serve(file, *options, cwd=EXAMPLES, wait=False))
            for path in PROGRAMS
            for *options, file in [serve_arguments(path)]
        }
    shared_place.settle()


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_example_does_what_its_docstring_says(path: Path, all_served: dict[Path, Serve]) -> None:
    served, *others = calls(path)
    assert served.command.startswith("zygo serve "), "the first command of an example serves it"
    assert others, "an example is called, too"
    serve = all_served[path]
    serve.wait_for(r"Serving\.\.\.", timeout=100)
    for call in others:
        check(call, serve)


def test_background_work_goes_on_after_the_answer(all_served: dict[Path, Serve]) -> None:
    serve = all_served[EXAMPLES / "background.py"]
    serve.skip()
    assert serve.get("accept", params={"name": "letter"}).json() == {"accepted": "letter"}
    serve.wait_for(r"accept \| finished letter")


def test_whole_app_has_websockets_and_a_lifespan(all_served: dict[Path, Serve]) -> None:
    from websockets.sync.client import connect

    serve = all_served[EXAMPLES / "whole_app.py"]
    with connect(serve.url("web").replace("http://", "ws://") + "/echo") as socket:
        socket.send("hello")
        assert socket.recv(timeout=20) == "HELLO"
    assert serve.seen(r"web \| up")
