"""Every example runs, and does what its docstring says: the commands there are executed, their output compared.

A docstring shows `$ zygo serve FILE`, then `$ curl ...` with "$URL" (or "$URL_<FUNCTION>" of several), each with the
output below it, in which `...` stands for anything. A `# status 422` at its end is checked, too.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zygo.testing.harness import Place, Serve

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/__init__.py")])


@dataclass(frozen=True)
class Call:
    """One command of a docstring and what it prints."""

    command: str
    expected: str

    @property
    def status(self) -> int:
        found = re.search(r"#.*status (\d+)", self.command)
        return int(found[1]) if found else 200

    @property
    def pattern(self) -> str:
        return ".*".join(map(re.escape, self.expected.split("...")))


def calls(path: Path) -> list[Call]:
    """The commands in a docstring, each with the lines below it, up to an empty one."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "").splitlines():
        text = line.strip()
        if text.startswith("$ "):
            found.append((text[2:], []))
        elif inside and text:
            found[-1][1].append(text)
        inside = bool(text) and bool(found) and (inside or text.startswith("$ "))
    return [Call(command, "\n".join(lines)) for command, lines in found]


def serve_arguments(path: Path) -> list[str]:
    return shlex.split(calls(path)[0].command)[2:]


def run(call: Call, serve: Serve, functions: list[str]) -> subprocess.CompletedProcess[str]:
    """Execute `call` in a shell as a user would, `curl` told to be quiet and to add the status."""
    urls = {f"URL_{name.upper()}": serve.url(name) for name in functions}
    curl = 'curl() { command curl --silent --max-time 20 "$@" --write-out "\\n%{http_code}"; }; export -f curl\n'
    command = call.command.replace("xargs -P 20 -I{} curl", "xargs -P 20 -I{} bash -c 'curl \"$0\"'")
    return subprocess.run(
        ["bash", "-c", curl + command],
        cwd=EXAMPLES,
        env={**serve.place.environment, **urls, "URL": serve.url(functions[0])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(call: Call, serve: Serve, functions: list[str]) -> None:
    done = run(call, serve, functions)
    body, _, status = done.stdout.rpartition("\n")
    assert done.returncode == 0, done.stderr
    assert int(status) == call.status, body
    assert re.fullmatch(call.pattern, body.strip(), re.DOTALL), body


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
    functions = re.findall(r"^  (\w+) => http", serve.text, re.MULTILINE)
    for call in others:
        check(call, serve, functions)


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
