"""What an example's docstring shows: its commands, executed as a user would, their output compared.

A docstring shows `$ zygo serve FILE`, then `$ curl ...` with "$URL" (or "$URL_<FUNCTION>" of several), each with the
output below it, in which `...` stands for anything. A `# status 422` at its end is checked, too.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zygo.testing.harness import Serve

EXAMPLES = Path(__file__).parents[2] / "examples"


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


def functions(serve: Serve) -> list[str]:
    """The web functions that `zygo serve` has printed."""
    return re.findall(r"^  (\w+) => http", serve.text, re.MULTILINE)


def run(call: Call, serve: Serve) -> subprocess.CompletedProcess[str]:
    """Execute `call` in a shell as a user would, `curl` told to be quiet and to add the status."""
    names = functions(serve)
    urls = {f"URL_{name.upper()}": serve.url(name) for name in names}
    curl = 'curl() { command curl --silent --max-time 200 "$@" --write-out "\\n%{http_code}"; }; export -f curl\n'
    command = call.command.replace("xargs -P 20 -I{} curl", "xargs -P 20 -I{} bash -c 'curl \"$0\"'")
    return subprocess.run(
        ["bash", "-c", curl + command],
        cwd=EXAMPLES,
        env={**serve.place.environment, **urls, "URL": serve.url(names[0])},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def check(call: Call, serve: Serve) -> None:
    done = run(call, serve)
    body, _, status = done.stdout.rpartition("\n")
    assert done.returncode == 0, done.stderr
    assert int(status) == call.status, body
    assert re.fullmatch(call.pattern, body.strip(), re.DOTALL), body
