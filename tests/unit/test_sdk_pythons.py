"""The SDK, the loader and the alias on every Python that this machine has: containers may run any of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zygo

SOURCE = str(Path(zygo.__file__).parents[1])

PROGRAM = """
from __future__ import annotations
import modal
from typing import Optional
from modal.exception import InvalidError

image = modal.Image.debian_slim().pip_install("fastapi[standard]").env({"A": "1"})
app = modal.App("everywhere", image=image, secrets=[modal.Secret.from_dict({"B": "2"})])
with image.imports():
    import h2_not_there

import helper

@app.function(min_containers=1, cpu=(1, 2.0), keep_warm=None, gpu="T4")
@modal.concurrent(max_inputs=3)
@modal.fastapi_endpoint(method="POST", path="/items/{id}")
def item(id: int, body: dict):
    return {"x": body["x"] ** 2}

@app.function()
@modal.asgi_app()
def web():
    return None

@app.function()
async def plain(n: int) -> int:
    return helper.double(n)

@app.cls()
class Model:
    name: str = modal.parameter(default="x")

    @modal.enter()
    async def load(self):
        self.twice = self.name * 2

    @modal.method()
    def get(self):
        return self.twice

assert Model(name="ab").get.local() == "abab"

refused = []
for use in (
    lambda: app.function(min_containers=2, max_containers=1)(helper.double),
    lambda: modal.fastapi_endpoint()(item),
    lambda: modal.Volume.from_name("v"),
    lambda: app.cls()(helper.double),
    lambda: item.remote(1),
):
    try:
        use()
    except InvalidError as error:
        refused.append(str(error))
assert len(refused) == 5, refused
assert "@app.function(" in refused[1] and "def item(id: int, body: dict):" in refused[1], refused[1]
"""

DRIVER = """
import asyncio, json, sys
from zygo import alias, loader, model, wire, errors
from zygo.sdk import context, app as registry
result = loader.evaluate(loader.parse_ref("hello.py"))
text = json.dumps(model.encode(result))
functions = registry.registered_apps()[0].registered_functions
assert asyncio.run(functions["plain"].local(4)) == 8
assert [s.remote_path for s in result.sources] == ["/root/hello.py", "/root/helper.py"]
assert result.app.functions[0].web.path == "/items/{id}"
assert result.app.functions[0].web.sample == "/items/1 -H 'Content-Type: application/json' -d '{\\"x\\": 1}'", (
    result.app.functions[0].web.sample)
assert result.app.functions[0].image.python_version == "%d.%d" % sys.version_info[:2]
assert result.third_party == ("h2_not_there",), result.third_party
# As a container imports it: nothing of the machine is there, and the failed import is an error.
context.set_remote(True, container_id="c-1", function="item", functions=["item"])
import importlib
for name in ("hello", "helper"):
    sys.modules.pop(name, None)
sys.path.insert(0, "")
try:
    importlib.import_module("hello")
except ModuleNotFoundError as error:
    assert error.name == "h2_not_there"
else:
    raise AssertionError("the import should have failed")
print("ok")
"""


def interpreters() -> list[str]:
    """Every Python from 3.9 on that can be found, one path for each installation."""
    names = [f"python3.{minor}" for minor in range(9, 15)]
    found = [sys.executable, "/usr/bin/python3", *filter(None, map(shutil.which, names))]
    found += map(str, sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    found += map(str, sorted(Path.home().glob(".local/share/uv/python/cpython-3.*/bin/python3")))
    unique = {os.path.realpath(path): path for path in found if os.path.exists(path)}
    check = "import sys; raise SystemExit(sys.version_info < (3, 9))"
    # A version manager's shim may exist for a version that does not.
    return [
        path for path in unique.values() if subprocess.run([path, "-c", check], capture_output=True).returncode == 0
    ]


@pytest.mark.parametrize("python", interpreters())
def test_a_program_is_evaluated(python: str, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text("def double(n):\n    return 2 * n\n")
    done = subprocess.run(
        [python, "-W", "error", "-c", DRIVER],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
