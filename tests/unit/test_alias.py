"""`modal` is another name of `zygo`, and only in the process that asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import UnsupportedError
from zygo.sdk import unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = str(Path(zygo.__file__).parents[1])


def run(program: str, *path: str) -> str:
    """Run a program in an interpreter of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCE, *path])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_same_modules_and_objects() -> None:
    run(
        """
import zygo, zygo.errors
from zygo import alias
spec, loader = zygo.__spec__, zygo.__loader__
alias.install(); alias.install()
import sys
assert sum(type(f).__module__ == "zygo.alias" for f in sys.meta_path) == 1
import modal
import modal.exception, modal.app, modal.functions, modal.image, modal.secret, modal.partial_function
from modal import App, Image, Secret, asgi_app, concurrent, fastapi_endpoint, is_local, enable_output
from modal.exception import InvalidError, NotFoundError, TimeoutError, OutputExpiredError
assert modal is zygo and modal.exception is zygo.errors and App is zygo.App
assert modal.app.App is App and modal.image.Image is Image and modal.secret.Secret is Secret
assert (zygo.__spec__, zygo.__loader__, zygo.__name__) == (spec, loader, "zygo")
assert zygo.errors.__spec__.name == zygo.errors.__name__ == "zygo.errors"
assert NotFoundError is zygo.errors.NotFoundError
with enable_output():
    pass
"""
    )


def test_modal_exception_without_importing_it() -> None:
    run("from zygo import alias; alias.install()\nimport modal\nassert modal.exception.NotFoundError and modal.Error")


def test_an_installed_modal_is_shadowed_also_when_it_was_imported(tmp_path: Path) -> None:
    (tmp_path / "modal").mkdir()
    (tmp_path / "modal" / "__init__.py").write_text("REAL = True")
    (tmp_path / "modal" / "cli.py").write_text("REAL = True")
    run(
        """
import modal
assert modal.REAL
from zygo import alias; alias.install()
import modal, zygo
assert modal is zygo
try:
    import modal.cli
except ModuleNotFoundError as error:
    assert "modal.cli" in str(error)
else:
    raise AssertionError
""",
        str(tmp_path),
    )


def test_without_the_hook_there_is_no_modal() -> None:
    run(
        """
import zygo, importlib.util
assert importlib.util.find_spec("modal") is None
"""
    )


@pytest.mark.parametrize("name", sorted(unsupported.NAMES))
def test_names_that_come_later_can_be_imported_and_not_used(name: str) -> None:
    value = getattr(zygo, name)
    assert value is getattr(zygo, name)
    assert not isinstance(3, value)
    assert repr(value) == f"<zygo.{name}, not supported yet>"
    uses: list[Callable[[], Any]] = [lambda: value("x"), lambda: value.from_name("x"), lambda: value["x"]]
    for use in uses:
        with pytest.raises(UnsupportedError, match=rf"zygo\.{name}.* is not supported yet\. \w"):
            use()
    with pytest.raises(UnsupportedError):
        exec("class Sub(value): pass", {"value": value})


def test_names_that_come_later_in_annotations() -> None:
    run(
        """
from typing import Optional
from zygo import alias; alias.install()
import modal
from modal.volume import Volume
def f(a: modal.Volume, b: Optional[modal.Sandbox] = None, c: "modal.Dict" = None): ...
assert Volume is modal.Volume
"""
    )


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Appp'"):
        _ = zygo.Appp
    with pytest.raises(AttributeError, match="it is called App"):
        _ = zygo.Stub


def test_every_public_name_is_there() -> None:
    for name in zygo.__all__:
        assert getattr(zygo, name) is not None
    assert set(zygo.__all__) <= set(dir(zygo))
