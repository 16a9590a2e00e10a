"""The benchmarks run from one command and say what they measured; what they find is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
    }
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=800, check=False
    )


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_reload_and_memory_beside_uvicorn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report.json"
    folder = tempfile.mkdtemp(prefix="zgt")  # short: sockets lie in it
    Path(folder).chmod(0o711)
    monkeypatch.setenv("TMPDIR", folder)
    done = run("reload", "memory", "--quick", "--json", str(report))
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert found["quick"]
    assert {"cores", "kernel", "python", "user"} <= found["conditions"].keys()
    assert [result["name"] for result in found["results"]] == ["reload", "memory"]
    for result in found["results"]:
        assert {"zygo", "uvicorn"} <= result["settings"].keys(), "the settings of both sides are part of the result"
        sides = {figure["what"].split()[0].rstrip(",") for figure in result["figures"]}
        assert sides == {"zygo", "uvicorn"}
        for figure in result["figures"]:
            assert figure["n"] == len(figure["samples"]) > 0
            assert figure["min"] <= figure["p50"] <= figure["p99"] <= figure["max"]
            assert figure["what"] in done.stdout
        assert any(comparison["floor"] is not None for comparison in result["comparisons"])
    (zygo,) = [figure for figure in found["results"][0]["figures"] if figure["what"] == "zygo serve"]
    assert zygo["failed"] == 0, "requests were lost in a reload"
    assert not [p for p in psutil.process_iter(["cmdline"]) if folder in " ".join(p.info["cmdline"] or ())]
    Path(folder).rmdir()  # it left nothing there


@pytest.mark.timeout(300)
def test_an_application_beside_its_own_server(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("applications", "--only", "files", "--quick", "--json", str(report))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(report.read_text())["results"]
    assert [figure["what"] for figure in result["figures"]] == [
        "files: image and first load",
        "files: zygo",
        "files: its own server",
    ]
    assert all(figure["n"] and not figure["failed"] for figure in result["figures"])


def test_an_unknown_application_is_refused_by_name() -> None:
    done = run("applications", "--only", "flasks")
    assert done.returncode == 2
    assert "no application is called 'flasks'; there are fastapi, " in done.stderr
    assert "--only is for the applications" in run("cold", "--only", "flask").stderr


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    done = run("cold", "lukewarm")
    assert done.returncode == 2
    assert "no benchmark is called 'lukewarm'; there are cold, warm" in done.stderr
