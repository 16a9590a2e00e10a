"""Who may import whom inside zygo, read from the source: also what is imported inside functions counts.

The table is that of the house's plan. Up-calls are listeners that `server` registers; interfaces stand where they are
consumed. `if TYPE_CHECKING:` imports do not run and are free.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import zygo

PACKAGE = Path(zygo.__file__).parent
BASE = {"errors", "settings", "paths", "model", "wire", "version", "interfaces"}

MAY_IMPORT: dict[str, set[str]] = {
    **{name: BASE for name in BASE},
    "__init__": BASE | {"sdk"},
    "__main__": {"cli"},
    "sdk": BASE | {"sdk", "alias"},
    "alias": BASE | {"sdk"},
    "loader": BASE | {"sdk", "alias"},
    "store": BASE | {"store"},
    "runtime": BASE | {"runtime"},
    "builder": BASE | {"builder", "runtime"},
    "guest": BASE | {"guest", "sdk", "alias", "loader"},
    "engine": BASE | {"engine", "runtime"},
    "scheduler": BASE | {"scheduler", "store", "engine.base"},
    # Frames and the pace of calls are pure, and the same for whoever sends calls: a program, or the server for it.
    "gateway": BASE | {"gateway", "store", "scheduler", "sdk.frames", "sdk.pace"},
    # Labels are pure and are the same for the one who asks for a hostname and the one who serves it. The doctor tries a
    # server's start as a command would start one.
    "server": BASE
    | {
        "sdk.labels",
        "sdk.frames",
        "sdk.delegation",
        "server",
        "store",
        "runtime",
        "builder",
        "engine",
        "scheduler",
        "gateway",
    },
    "program": BASE | {"program", "sdk", "alias", "loader"},
    "startup": {"sdk.context", "alias"},
    "cli": BASE | {"cli", "program", "sdk", "alias", "loader"},
    "testing": BASE
    | {"testing", "cli", "program", "sdk", "alias", "loader", "server", "store", "runtime", "builder", "engine"}
    | {"scheduler", "gateway"},
}
"""Part of zygo -> the parts that it may import; `engine.base` allows that module alone."""

EXCEPTIONS = {
    # The command `zygo server start` runs the server in its own process.
    ("cli", "server.main"),
    # `app.run()` and `app.deploy()` do what the commands do: the developer's machine has it all, containers refuse first.
    ("sdk", "program.running"),
}

GUEST_SIDE = {"__init__", "errors", "model", "wire", "version", "sdk", "alias", "loader", "guest"}
"""Parts that run in containers, where only the standard library is sure to be there."""

RUNTIME_LAYER = {"uvicorn", "httptools", "uvloop", "websockets", "a2wsgi", "cloudpickle", "fastapi", "starlette"}
"""What the guest itself may count on besides."""


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """`sdk` for sdk/app.py, `loader` for loader.py."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(module, line, whether inside a function) of each import that runs; `from a import b` gives a and a.b."""
    found: list[tuple[str, int, bool]] = []
    package = ["zygo", *path.relative_to(PACKAGE).parts[:-1]]

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                visit(other, inside)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            module = base if node.level else node.module or ""
            found.append((module, node.lineno, inside))
            if module.split(".")[0] == "zygo":
                found.extend((f"{module}.{alias.name}", node.lineno, inside) for alias in node.names)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), False)
    return found


def is_module(dotted: str) -> bool:
    place = PACKAGE.joinpath(*dotted.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


def is_allowed(part: str, target: str) -> bool:
    allowed = MAY_IMPORT[part]
    if any(target == a or target.startswith(f"{a}.") for a in allowed) or (part, target) in EXCEPTIONS:
        return True
    # The package `engine` itself, on the way to `engine.base`.
    return any(a.startswith(f"{target}.") for a in allowed) or any(
        p == part and t.startswith(f"{target}.") for p, t in EXCEPTIONS
    )


def test_every_part_is_in_the_table() -> None:
    assert {part_of(path) for path in files()} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for module, line, _ in imports(path):
        if not module.startswith("zygo.") or not is_module(module):
            continue
        target = module.removeprefix("zygo.")
        if not is_allowed(part, target):
            wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}, and {part} may not")
    assert wrong == []


@pytest.mark.parametrize(
    "path", [p for p in files() if part_of(p) in GUEST_SIDE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_what_containers_import_needs_the_standard_library_only(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for module, line, inside in imports(path):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("zygo", "modal"):
            continue
        if part == "guest" and top in RUNTIME_LAYER:
            continue
        # The control plane's client runs on the host and imports its HTTP library when it is used.
        if path == PACKAGE / "sdk" / "client.py" and inside:
            continue
        wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {module}")
    assert wrong == []


def test_nothing_imports_the_test_kit() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in files()
        if part_of(path) != "testing"
        for module, line, _ in imports(path)
        if module.startswith("zygo.testing")
    ]
    assert found == []
