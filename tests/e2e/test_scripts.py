"""The commands of the README: quickstart really serves and ends; what is missing is named, not guessed at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """An environment with a data and a runtime directory of its own, which root's containers can traverse."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield {
            **os.environ,
            "ZYGO_DATA_DIR": f"{name}/data",
            "ZYGO_RUNTIME_DIR": f"{name}/run",
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
        }


def bash(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`code` with lib.sh sourced."""
    return subprocess.run(
        ["bash", "-c", f'source "{SCRIPTS}/lib.sh"; {code}'], capture_output=True, text=True, env=env, timeout=60
    )


@pytest.mark.timeout(300)
def test_quickstart_once(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [SCRIPTS / "quickstart", "--once"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = done.stdout.split('?x=12"\n', 1)[1].splitlines()[0]
    assert json.loads(answer) == {"square": 144}
    zygo = Path(sys.prefix) / "bin" / "zygo"
    status = subprocess.run([zygo, "server", "status"], capture_output=True, env=environ, timeout=60)
    assert status.returncode == 1


@pytest.mark.parametrize("script", ["quickstart", "test", "check", "release"])
def test_help_and_unknown_options(script: str) -> None:
    told = subprocess.run([SCRIPTS / script, "--help"], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0
    assert f"scripts/{script}" in told.stdout
    if script != "test":  # which hands on what it does not know to pytest
        refused = subprocess.run([SCRIPTS / script, "--no-such"], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert "unknown option --no-such" in refused.stderr


def test_missing_packages_are_named_to_one_who_cannot_install_them(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("not Debian")
    done = bash("as_root() { return 1; }; packages zygo-no-such-package || echo went on", dict(os.environ))
    assert "As root: apt-get install zygo-no-such-package" in done.stderr
    assert done.stdout == "went on\n"


def test_packages_that_are_there_are_not_installed_again(environ: dict[str, str]) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("not Debian")
    done = bash("as_root() { echo asked; }; packages bash coreutils", environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_command_that_fails_shows_its_output_and_one_that_works_does_not(environ: dict[str, str]) -> None:
    done = bash("quietly echo fine; quietly sh -c 'echo broken; exit 3' || echo $?", environ)
    assert done.stdout == "3\n"
    assert done.stderr == "broken\n"
