"""What importing costs: the names users import bring nothing heavy with them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import zygo

SOURCE = Path(zygo.__file__).parents[1]
HEAVY = (
    "pydantic",
    "httpx",
    "fastapi",
    "starlette",
    "rich",
    "typer",
    "uvloop",
    "uvicorn",
    "asyncio",
    "sqlalchemy",
    "alembic",
    "cryptography",
)
OURS_HOST_ONLY = ("cli", "server", "gateway", "scheduler", "builder", "engine", "runtime", "store", "testing")


@pytest.mark.parametrize(
    "program",
    [
        "import zygo",
        "import zygo; zygo.App; zygo.Image; zygo.Secret; zygo.fastapi_endpoint; zygo.Function; zygo.Volume",
        "import zygo.loader, zygo.alias, zygo.wire; zygo.alias.install(); import modal; modal.App",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    report = f"\nimport sys; print(*sorted(n for n in sys.modules if n in {HEAVY!r} or n.startswith('zygo.')))"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert [name for name in loaded if name in HEAVY] == []
    assert [name for name in loaded if name.split(".")[1:2] and name.split(".")[1] in OURS_HOST_ONLY] == []
    if program == "import zygo":
        assert [name for name in loaded if name.startswith("zygo.")] == []


def test_the_version_is_the_projects() -> None:
    assert zygo.__version__ == metadata.version("zygo")


def guest_side() -> list[Path]:
    """Every file that containers import, on whatever Python their image has."""
    package = SOURCE / "zygo"
    names = ("__init__", "errors", "model", "wire", "loader", "alias")
    folders = ("sdk", "guest")
    return [package / f"{name}.py" for name in names] + sorted(f for d in folders for f in (package / d).rglob("*.py"))


@pytest.mark.parametrize("path", guest_side(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_containers_import_is_written_for_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    if code:
        first = code[0]
        assert isinstance(first, ast.ImportFrom), path
        assert first.module == "__future__", path
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "dataclass":
            assert {k.arg for k in node.keywords} <= {"frozen", "eq", "order", "repr", "init", "unsafe_hash"}, path
