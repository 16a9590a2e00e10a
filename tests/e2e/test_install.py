"""The package as users get it: a wheel, with uvx and with pip in a virtual environment of Debian's Python."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zygo.builder.uv import find_uv
from zygo.testing.harness import Place

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import zygo

app = zygo.App("installed")


@app.function()
@zygo.fastapi_endpoint()
def double(x: int):
    return {"double": 2 * x}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    out = tmp_path_factory.mktemp("dist")
    run([str(find_uv()), "build", "--quiet", "--wheel", "--out-dir", str(out), str(REPOSITORY)])
    return next(out.glob("zygo-*.whl"))


def run(command: list[str]) -> str:
    """Run to the end; the output. Fails with it."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout


def served(place: Place, program: Path) -> None:
    """`zygo serve` of that place answers, and ends without a trace."""
    with place.serve(program) as serve:
        assert serve.get("double", params={"x": 21}).json() == {"double": 42}
        assert serve.stop() == 0
    place.settle()
    place.stop_server()
    place.settle()


@pytest.mark.timeout(300)  # wheels are fetched
def test_pip_in_a_virtual_environment(wheel: Path, tmp_path: Path, write: Callable[..., Path]) -> None:
    """What the README tells those who have no uv."""
    venv = tmp_path / "venv"
    run(["/usr/bin/python3", "-m", "venv", str(venv)])
    run([str(venv / "bin" / "pip"), "install", "--quiet", str(wheel)])
    with Place(python=str(venv / "bin" / "python")) as place:
        served(place, write(PROGRAM))


@pytest.mark.timeout(300)
def test_uvx(wheel: Path, write: Callable[..., Path]) -> None:
    """`uvx zygo serve hello.py`, with the wheel instead of the index."""
    uv = str(find_uv())
    with Place() as place:
        command = [uv, "tool", "run", "--quiet", "--from", str(wheel), "zygo"]
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=300, env=place.environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("zygo 0.")
        python = run([*command[:-1], "python", "-c", "import sys; print(sys.executable)"]).strip()
        place.python = python
        served(place, write(PROGRAM))
