"""Which files are the user's, when their folder also holds an interpreter: root's home in a sandbox."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING

import pytest

from zygo.guest import fitness, own, revision, tracebacks
from zygo.guest.own import is_own

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = "/root/.pyenv/versions/3.13.0/"
IMAGE = "/root/.local/share/zygo/images/1/venv/"


@pytest.fixture
def below_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this interpreter lay below /root."""
    monkeypatch.setattr(own, "PLACES", (PYTHON, IMAGE, "/usr/lib/python3/dist-packages/"))


@pytest.mark.usefixtures("below_root")
@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/root/app.py", True),
        ("/root/package/inner.py", True),
        ("/root/.pyenv/mine.py", True),
        (f"{PYTHON}lib/python3.13/queue.py", False),
        (f"{IMAGE}lib/python3.13/site-packages/fastapi/routing.py", False),
        ("/usr/lib/python3/dist-packages/x.py", False),
        ("/rooted/app.py", False),
        ("", False),
    ],
)
def test_whose_a_file_is(path: str, whose: bool) -> None:
    assert is_own(path, "/root") is whose


def test_a_folder_inside_an_interpreters_is_still_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "PLACES", ("/srv/", "/srv/revision/"))
    assert is_own("/srv/revision/app.py", "/srv/revision")


def test_what_this_interpreter_runs_on_is_not_the_users() -> None:
    import queue

    import zygo

    for module in (queue, pytest, zygo):
        file = str(module.__file__)
        assert not is_own(file, "/" + file.split("/")[1]), file


def test_the_users_module_wins_over_a_preloaded_one_below_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "PLACES", (f"{tmp_path}/.python/",))
    names = {"zzz_standard": f"{tmp_path}/.python/lib/zzz_standard.py", "zzz_mine": f"{tmp_path}/zzz_mine.py"}
    for name, file in names.items():
        (tmp_path / f"{name}.py").touch()
        module = types.ModuleType(name)
        module.__file__ = file
        monkeypatch.setitem(sys.modules, name, module)
    revision.forget_shadowed(str(tmp_path))
    assert "zzz_standard" not in sys.modules
    assert "zzz_mine" in sys.modules


def test_packages_below_the_users_folder_are_third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "PLACES", (f"{tmp_path}/.python/",))
    for name, folder in {"zzz_library": ".python/lib/site-packages", "zzz_vendored": "vendor/site-packages"}.items():
        module = types.ModuleType(name)
        module.__file__ = f"{tmp_path}/{folder}/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
    assert revision.third_party({"zzz_library", "zzz_vendored"}, str(tmp_path)) == ["zzz_library"]


def test_tracebacks_begin_in_the_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "PLACES", (f"{tmp_path}/.python/",))
    library, mine = f"{tmp_path}/.python/lib/importing.py", f"{tmp_path}/app.py"
    scope: dict[str, object] = {}
    exec(compile("def fail():\n    raise KeyError('x')\n", mine, "exec"), scope)
    exec(compile("def load(f):\n    f()\n", library, "exec"), scope)
    with pytest.raises(KeyError) as caught:
        scope["load"](scope["fail"])  # type: ignore[operator]
    text, file, line = tracebacks.describe(caught.value, str(tmp_path))
    assert library not in text
    assert (file, line) == (mine, 2)
    frames = f'  File "{library}", line 2, in load\n  File "{mine}", line 2, in fail\n'
    told = f"Traceback (most recent call last):\n{frames}KeyError\n"
    assert tracebacks.trim(told, str(tmp_path)).splitlines()[1] == f'  File "{mine}", line 2, in fail'
    assert fitness._where([f"{mine}:7\n{library}:3"], str(tmp_path)) == f"{mine}:7"
