"""The interpreters of this machine: found by version, asked what they are, and made reachable for containers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop

from zygo.builder import interpreters
from zygo.builder.build import Builder
from zygo.builder.uv import find_uv
from zygo.errors import InvalidError, NotFoundError
from zygo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

AVAILABLE = sorted(interpreters.available(), key=lambda version: int(version.split(".")[1]))
USED = (
    "fastapi",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "websockets",
    "a2wsgi",
    "cloudpickle",
    "multipart",
)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that every uid can traverse; pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_this_machine_has_one() -> None:
    assert f"3.{sys.version_info.minor}" in AVAILABLE


@pytest.mark.parametrize("version", AVAILABLE)
def test_an_interpreter_is_what_it_says(version: str) -> None:
    found = interpreters.find(version)
    code = "import sys, platform; print(platform.python_version(), sys.prefix, sep='\\n')"
    answer = subprocess.run([found.path, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert answer[0] == found.version
    assert found.minor == version
    assert Path(answer[1]).resolve() == found.prefix
    assert found.path == found.path.resolve()


def test_an_environment_answers_with_its_base(tmp_path: Path) -> None:
    subprocess.run([find_uv(), "venv", "-q", "--no-project", "--python", sys.executable, tmp_path / "env"], check=True)
    found = interpreters.probe(tmp_path / "env" / "bin" / "python")
    assert found is not None
    assert found.prefix == Path(sys.base_prefix).resolve()
    assert not found.path.is_relative_to(tmp_path)


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 127\n", "#!/bin/sh\necho no json\n", "not a program"])
def test_what_is_no_interpreter_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "python3.11").write_text(content)
    (tmp_path / "python3.11").chmod(0o755)
    assert interpreters.probe(tmp_path / "python3.11") is None


def test_a_broken_one_on_the_path_hides_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = AVAILABLE[0]
    (tmp_path / f"python{version}").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / f"python{version}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert interpreters.find(version).minor == version


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folders_that_are_closed_to_this_user_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions").mkdir(mode=0)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'versions'}:{os.environ['PATH']}")
    assert interpreters.find(AVAILABLE[0]).minor == AVAILABLE[0]


def test_an_unsupported_version_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"3\.9 to 3\.14"):
        interpreters.find("2.7")


def test_a_missing_one_names_those_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = sorted(set(interpreters.SUPPORTED) - set(AVAILABLE))
    if not missing:
        pytest.skip("this machine has every supported Python")
    with pytest.raises(NotFoundError) as caught:
        interpreters.find(missing[0], uv=find_uv())
    assert all(f"3.{version.split('.')[1]}." in str(caught.value) for version in AVAILABLE)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's containers run as that user")
@pytest.mark.parametrize("version", AVAILABLE)
def test_roots_containers_can_run_every_interpreter(version: str, public: Path) -> None:
    async def main() -> interpreters.Interpreter:
        builder = Builder(Settings(data_dir=public / "data"), uv=find_uv())
        return await builder.interpreter(version, on_line=print)

    found = uvloop.run(main())
    assert found.shared
    assert found.minor == version
    code = "import ctypes, hashlib, json, sqlite3, ssl, sys; print(sys.base_prefix)"
    answer = subprocess.run(
        [found.path, "-I", "-c", code],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
    )
    assert answer.stdout.strip() == str(found.prefix), answer.stderr
    assert uvloop.run(main()) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's containers run as that user")
def test_one_that_everybody_can_run_comes_first(public: Path) -> None:
    system = interpreters.probe(Path("/usr/bin/python3"))
    if system is None or system.minor not in interpreters.SUPPORTED:
        pytest.skip("no supported /usr/bin/python3 here")
    assert system.shared
    assert interpreters.find(system.minor).shared


@pytest.mark.parametrize("version", AVAILABLE)
def test_the_runtime_layer_is_there_for_every_interpreter(version: str, public: Path) -> None:
    builder = Builder(Settings(data_dir=public / "data"), uv=find_uv())
    lines: list[tuple[str, str]] = []

    async def main() -> Path:
        found = await builder.interpreter(version, on_line=print)
        first = await builder.runtime_layer(found, on_line=lambda step, line: lines.append((step, line)))
        said = len(lines)
        assert await builder.runtime_layer(found, on_line=lambda step, line: lines.append((step, line))) == first
        assert len(lines) == said > 0
        return first

    layer = uvloop.run(main())
    interpreter = interpreters.find(version, extra=(public / "data" / "python",))
    code = f"import sys; sys.path.append({str(layer)!r})\n" + "".join(f"import {name}\n" for name in USED)
    code += "print(fastapi.__file__); print(multipart.__file__)"
    done = subprocess.run([interpreter.path, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(layer) for line in done.stdout.split())
    assert list(layer.glob("fastapi/__pycache__/applications.*.pyc"))
    assert not (layer / "bin").exists()
