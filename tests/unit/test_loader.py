"""evaluate: from a user's file to what its app is, and what is said when it is not."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zygo import model
from zygo.errors import AppReferenceError, InvalidError, UnsupportedError, UserCodeError
from zygo.loader import AppRef, Evaluated, evaluate, watch_roots
from zygo.sdk.app import registered_apps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELLO = """
import {name}

image = {name}.Image.debian_slim().pip_install("fastapi[standard]")
app = {name}.App(name="has-simple-endpoint", image=image)


@app.function()
@{name}.fastapi_endpoint()
def f():
    return "Hello world!"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write files into the working directory."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / (name.replace("__SLASH__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def served(path: str = "hello.py", **given: str) -> Evaluated:
    """Evaluate, and carry the result over as the command line does."""
    result = evaluate(AppRef(path=path, **given))
    assert model.decode(Evaluated, json.loads(json.dumps(model.encode(result)))) == result
    return result


def remote(result: Evaluated) -> list[str]:
    return [source.remote_path for source in result.sources]


def failure(path: str = "bad.py") -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        evaluate(AppRef(path=path))
    return caught.value


# -- what an app is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zygo", "modal"])
def test_a_simple_endpoint(project: Callable[..., Path], name: str) -> None:
    root = project(hello=HELLO.format(name=name))
    result = served()
    assert (result.app.name, result.app.module, result.app.app_variable) == ("has-simple-endpoint", "hello", "app")
    (function,) = result.app.functions
    assert (function.name, function.module, function.qualname) == ("f", "hello", "f")
    assert function.web == model.WebSpec("fastapi_endpoint")
    assert function.image.steps[0].args["packages"] == ["fastapi[standard]"]
    assert [(s.local_path, s.remote_path, s.mode) for s in result.sources] == [
        (str(root / "hello.py"), "/root/hello.py", 0o644)
    ]
    assert result.app.files == ()
    assert result.app.warnings == ()


def test_the_usual_endpoints_of_a_guide(project: Callable[..., Path]) -> None:
    project(
        hello="""
        from fastapi import Form, UploadFile
        from fastapi.responses import HTMLResponse
        from pydantic import BaseModel

        import modal

        image = modal.Image.debian_slim().pip_install("fastapi[standard]", "boto3")
        app = modal.App(image=image)


        class Item(BaseModel):
            name: str
            qty: int = 42


        @app.function()
        @modal.fastapi_endpoint()
        def square(x: int):
            return {"square": x**2}


        @app.function()
        @modal.fastapi_endpoint(method="POST")
        def square_of(item: dict):
            return {"square": item["x"] ** 2}


        @app.function()
        @modal.fastapi_endpoint(method="POST")
        def greet(item: Item):
            import boto3

            return HTMLResponse(f"<html>Hello, {item.name}!</html>")


        @app.function()
        @modal.concurrent(max_inputs=20)
        @modal.asgi_app()
        def web():
            from fastapi import FastAPI

            return FastAPI()


        @app.function()
        def helper(x):
            return x
        """
    )
    result = served()
    assert result.app.name == "hello"
    samples = {f.name: f.web.sample if f.web else None for f in result.app.functions}
    assert samples == {
        "square": "?x=1",
        "square_of": "-H 'Content-Type: application/json' -d '{\"x\": 1}'",
        "greet": '-H \'Content-Type: application/json\' -d \'{"name": "Ada", "qty": 42}\'',
        "web": "",
        "helper": None,
    }
    assert result.third_party == ("fastapi", "fastapi.responses", "pydantic")
    assert result.app.functions[3].policy.max_inputs == 20


def test_annotations_may_be_postponed(project: Callable[..., Path]) -> None:
    project(
        hello="""
        from __future__ import annotations
        import zygo
        app = zygo.App()

        @app.function()
        @zygo.fastapi_endpoint(path="/items/{id}")
        def item(id: int, q: str | None = None) -> dict:
            return {"id": id}
        """
    )
    (function,) = served().app.functions
    assert function.web is not None
    assert function.web.sample == "/items/1"


def test_an_app_without_a_name_gets_one(project: Callable[..., Path]) -> None:
    project(**{"my app": "import zygo\napp = zygo.App()", "stub": "import zygo\nstub = zygo.App()"})
    assert served("my app.py").app.name == "my-app"
    result = served("stub.py")
    assert (result.app.app_variable, result.app.warnings) == (
        "stub",
        ("the app has no functions; put @app.function() above one",),
    )
    assert evaluate(AppRef(path="stub.py"), default_name="given").app.name == "given"


def test_which_app_is_meant(project: Callable[..., Path]) -> None:
    project(
        two="""
        import zygo
        first, second = zygo.App("a"), zygo.App("b")
        @second.function()
        def f(): ...
        class box: app = second
        """,
        none="import zygo\ndef make():\n    return zygo.App()\nmake()",
        imported="from two import second as app",
    )
    assert served("two.py", object="second").app.name == "b"
    assert served("two.py", object="f").app.app_variable == "second"
    assert served("two.py", object="box.app").app.name == "b"
    result = served("imported.py")
    assert (result.app.module, result.app.app_variable) == ("imported", "app")
    assert result.app.functions[0].module == "two"
    with pytest.raises(AppReferenceError, match=r"several Apps\. Use: zygo serve two\.py::first or "):
        served("two.py")
    with pytest.raises(AppReferenceError, match=r"no App 'third' in two\.py\. Use: zygo serve two\.py::first"):
        served("two.py", object="third")
    with pytest.raises(AppReferenceError, match=r"no App in none\.py\. It makes one inside a function"):
        served("none.py")


def test_a_file_that_is_not_there(project: Callable[..., Path]) -> None:
    project(hello="")
    with pytest.raises(AppReferenceError, match=r"no file helo\.py\. Did you mean hello\.py\?"):
        served("helo.py")
    with pytest.raises(AppReferenceError, match=r"no file no/hello\.py"):
        served("no/hello.py")
    with pytest.raises(AppReferenceError, match=r"no module pkg\.none"):
        evaluate(AppRef(module="pkg.none"))


@pytest.mark.parametrize("name", ["zygo", "modal", "fastapi", "queue", "my.app"])
def test_a_file_with_the_name_of_what_it_needs(project: Callable[..., Path], name: str) -> None:
    project(**{name: "import zygo\napp = zygo.App()"})
    with pytest.raises(AppReferenceError, match="Rename it"):
        served(f"{name}.py")


def test_the_file_runs_as_a_module_beside_its_neighbours(project: Callable[..., Path]) -> None:
    project(
        hello="""
        import sys, os
        import zygo
        import helper
        app = zygo.App(f"{__name__}-{helper.VALUE}-{len(sys.argv)}")
        assert sys.path[0] == os.path.dirname(__file__)
        assert sys.argv == [__file__]
        if __name__ == "__main__":
            raise RuntimeError
        """,
        helper="VALUE = 7",
    )
    path, argv = list(sys.path), list(sys.argv)
    assert served().app.name == "hello-7-1"
    assert (sys.path, sys.argv) == (path, argv)


def test_two_saves_within_a_second_are_two_states(project: Callable[..., Path]) -> None:
    root = project(hello="import zygo\nimport helper\napp = zygo.App(helper.NAME)", helper="NAME = 'a1'")
    at = 1_600_000_000
    for name in ("a1", "a2", "a3"):
        (root / "helper.py").write_text(f"NAME = '{name}'")
        os.utime(root / "helper.py", (at, at))
        assert served().app.name == name
    assert not (root / "__pycache__").exists()


def test_a_module_of_a_package(project: Callable[..., Path]) -> None:
    root = project(
        pkg__SLASH____init__="",
        pkg__SLASH__sub__SLASH____init__="",
        pkg__SLASH__sub__SLASH__web="""
        import zygo
        from ..tools import NAME
        app = zygo.App()
        @app.function()
        def f(): ...
        """,
        pkg__SLASH__tools="NAME = 'x'",
        pkg__SLASH__unused="",
        beside="",
    )
    (root / "pkg" / "page.html").write_text("<html>")
    result = evaluate(AppRef(module="pkg.sub.web"))
    assert (result.app.name, result.app.module) == ("web", "pkg.sub.web")
    assert result.app.functions[0].module == "pkg.sub.web"
    assert remote(result) == [
        "/root/pkg/__init__.py",
        "/root/pkg/page.html",
        "/root/pkg/sub/__init__.py",
        "/root/pkg/sub/web.py",
        "/root/pkg/tools.py",
        "/root/pkg/unused.py",
    ]


def test_a_file_of_a_package_is_told_how_to_be_served(project: Callable[..., Path]) -> None:
    project(pkg__SLASH____init__="", pkg__SLASH__web="import zygo\nfrom . import tools", pkg__SLASH__tools="")
    assert "zygo serve -m package.module" in str(failure("pkg/web.py"))


# -- sources and what is watched -------------------------------------------------------------------------------------


def test_what_the_script_imports_from_its_directory_goes_along(project: Callable[..., Path]) -> None:
    root = project(
        hello="""
        import importlib
        import zygo
        import helper
        from space.deep import thing
        importlib.import_module("dynamic")
        app = zygo.App()
        @app.function()
        def f():
            import lazy
            from tools import hammer
        """,
        helper="import second",
        second="",
        dynamic="",
        lazy="from tools.nails import NAIL",
        tools__SLASH____init__="",
        tools__SLASH__hammer="",
        tools__SLASH__nails="NAIL = 1",
        space__SLASH__deep__SLASH__thing="",
        space__SLASH__unused="",
        unrelated="",
        venv__SLASH__lib__SLASH__site_packages__SLASH__numpy="",
    )
    (root / "tools" / "page.html").write_text("")
    (root / "tools" / ".env").write_text("SECRET=1")
    (root / "tools" / "__pycache__").mkdir()
    (root / "tools" / "__pycache__" / "x.pyc").write_text("")
    result = served()
    assert remote(result) == [
        "/root/dynamic.py",
        "/root/hello.py",
        "/root/helper.py",
        "/root/lazy.py",
        "/root/second.py",
        "/root/space/deep/thing.py",
        "/root/tools/__init__.py",
        "/root/tools/hammer.py",
        "/root/tools/nails.py",
        "/root/tools/page.html",
    ]

    def wanted(name: str) -> bool:
        return any(watch.wants(str(root / name)) for watch in result.watch)

    for name in (*(path.removeprefix("/root/") for path in remote(result)), "tools/new.html", "tools/new/deep.py"):
        assert wanted(name), name
    for name in (
        "unrelated.py",
        "data.json",
        "tools/__pycache__/x.pyc",
        "tools/.git/HEAD",
        "tools/a.py~",
        "space/unused.py",
    ):
        assert not wanted(name), name


def test_a_folder_that_only_looks_like_an_installed_package(project: Callable[..., Path]) -> None:
    root = project(hello="import zygo\nimport pydantic\napp = zygo.App()", pydantic__SLASH__compose="")
    result = served()
    assert result.third_party == ("pydantic",)
    assert [s.local_path for s in result.sources] == [str(root / "hello.py")]


def test_a_module_that_is_not_there_yet_is_watched_for(project: Callable[..., Path]) -> None:
    root = project(hello="import zygo\nimport later\napp = zygo.App()")
    failure("hello.py")
    roots = watch_roots(AppRef(path="hello.py"))
    assert any(r.wants(str(root / "later.py")) for r in roots)
    assert any(r.wants(str(root / "hello.py")) for r in roots)
    assert watch_roots(AppRef(path="none.py"))[0].wants(str(root / "none.py"))


def test_watching_executes_nothing(project: Callable[..., Path]) -> None:
    root = project(hello="raise RuntimeError", helper="")
    assert any(r.wants(str(root / "hello.py")) for r in watch_roots(AppRef(path="hello.py")))


def test_files_of_images_and_secrets(project: Callable[..., Path]) -> None:
    root = project(
        hello="""
        import zygo
        base = zygo.Image.debian_slim().pip_install_from_requirements("requirements.txt")
        image = base.add_local_file("build.txt", "/opt/build.txt", copy=True).add_local_dir("data", "/data")
        app = zygo.App(image=image, secrets=[zygo.Secret.from_dotenv()])
        @app.function()
        def f(): ...
        """
    )
    (root / "requirements.txt").write_text("numpy\n")
    (root / ".env").write_text("A=1\n")
    (root / "build.txt").write_text("b")
    (root / "data").mkdir()
    (root / "data" / "d.txt").write_text("d")
    result = served()
    assert remote(result) == ["/data/d.txt", "/root/hello.py"]
    assert [s.remote_path for s in result.build_sources] == ["/opt/build.txt"]
    assert result.app.functions[0].env == {"A": "1"}
    assert [s.kind for s in result.app.functions[0].image.steps] == ["pip_install_from_requirements", "add_local"]
    for name in ("requirements.txt", ".env", "build.txt", "data/d.txt", "data/new/e.txt", "hello.py"):
        assert any(w.wants(str(root / name)) for w in result.watch), name
    for name in ("other.txt", "data/x.pyc"):
        assert not any(w.wants(str(root / name)) for w in result.watch), name


def test_without_source(project: Callable[..., Path]) -> None:
    project(
        hello="""
        import zygo
        import helper
        image = zygo.Image.debian_slim().add_local_python_source("helper")
        app = zygo.App(image=image, include_source=False)
        @app.function()
        def f(): ...
        """,
        helper="",
        one="""
        import zygo
        app = zygo.App(include_source=False)
        @app.function(include_source=True)
        def f(): ...
        """,
    )
    assert remote(served()) == ["/root/helper.py"]
    assert remote(served("one.py")) == ["/root/one.py"]


def test_a_file_added_by_hand_wins_and_two_that_differ_are_refused(project: Callable[..., Path]) -> None:
    root = project(
        hello="""
        import zygo, helper
        app = zygo.App(image=zygo.Image.debian_slim().add_local_file("other.txt", "/root/helper.py"))
        @app.function()
        def f(): ...
        """,
        helper="",
        clash="""
        import zygo
        app = zygo.App()
        slim = zygo.Image.debian_slim()
        @app.function(image=slim.add_local_file("other.txt", "/root/x"))
        def f(): ...
        @app.function(image=slim.add_local_file("third.txt", "/root/x"))
        def g(): ...
        """,
    )
    (root / "other.txt").write_text("other")
    (root / "third.txt").write_text("third")
    assert {s.remote_path: Path(s.local_path).name for s in served().sources}["/root/helper.py"] == "other.txt"
    with pytest.raises(InvalidError, match="both go to /root/x"):
        served("clash.py")


# -- what goes wrong in the user's code ------------------------------------------------------------------------------


def test_a_failure_is_shown_from_the_users_file_on(project: Callable[..., Path]) -> None:
    root = project(bad="import zygo\nimport helper\nhelper.run()", helper="def run():\n    return 1 / 0")
    error = failure()
    assert str(error) == "helper.py, line 2: ZeroDivisionError: division by zero"
    assert (error.file, error.line) == (str(root / "helper.py"), 2)
    lines = error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{root / "bad.py"}", line 3, in <module>'
    assert "loader.py" not in error.traceback
    assert "importlib" not in error.traceback


def test_causes_are_shown_too(project: Callable[..., Path]) -> None:
    project(bad="try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('x') from e")
    text = failure().traceback
    assert "direct cause" in text
    assert "ZeroDivisionError" in text
    assert "loader.py" not in text


@pytest.mark.parametrize("inside", [False, True])
def test_a_syntax_error(project: Callable[..., Path], inside: bool) -> None:
    root = project(bad="import helper" if inside else "def (", helper="x = 1\ndef (")
    error = failure()
    name, line = ("helper.py", 2) if inside else ("bad.py", 1)
    assert str(error) == f"{name}, line {line}: SyntaxError: invalid syntax"
    assert (error.file, error.line) == (str(root / name), line)
    assert "loader.py" not in error.traceback
    assert "def (" in error.traceback


def test_a_file_that_ends_the_process(project: Callable[..., Path]) -> None:
    project(bad="import sys\nsys.exit(3)")
    assert "bad.py, line 2: " in str(failure())
    assert "__main__" in str(failure())


@pytest.mark.parametrize(
    ("imported", "installed"),
    [
        ("import h2torch.nn as nn", "image.pip_install('h2torch==2.1')"),
        ("from h2_torch import x", "image.uv_pip_install(['h2-torch[extra]>=1'])"),
        ("import sklearn_none", "image.pip_install('sklearn-none')"),
        ("import h2torch", "image.pip_install_from_requirements('requirements.txt')"),
        ("import serial.tools", "image.pip_install('pyserial')"),
    ],
)
def test_a_module_that_only_the_image_has(project: Callable[..., Path], imported: str, installed: str) -> None:
    root = project(bad=f"{imported}\nimport zygo\nimage = zygo.Image.debian_slim()\nimage = {installed}")
    (root / "requirements.txt").write_text("numpy\nh2torch==2\n")
    message = str(failure())
    assert message.startswith("bad.py, line 1: module '")
    assert "is missing on this machine, present in the image" in message
    assert f"    with image.imports():\n        {imported}\n" in message


def test_a_module_that_nothing_has(project: Callable[..., Path]) -> None:
    project(bad="import h2_nothing")
    message = str(failure())
    assert "no image of this file installs it" in message
    assert "pip_install('h2-nothing')" in message
    assert "    with image.imports():\n        import h2_nothing" in message


def test_a_file_that_hides_a_module_of_python(project: Callable[..., Path]) -> None:
    project(bad="import helper", helper="import this.deeper", this="zen = 1")
    message = str(failure())
    assert "this.py stands where Python looks first" in message
    assert "Rename this.py." in message
    assert "image.imports" not in message


def test_a_name_that_a_failed_import_should_have_given(project: Callable[..., Path]) -> None:
    project(
        bad="""
        import zygo
        image = zygo.Image.debian_slim().pip_install("h2torch")
        with image.imports():
            import h2torch
        model = h2torch.load()
        """
    )
    message = str(failure())
    assert "NameError: name 'h2torch' is not defined" in message
    assert "h2torch is missing on this machine" in message


def test_optional_imports(project: Callable[..., Path]) -> None:
    project(
        hello="""
        import zygo
        image = zygo.Image.debian_slim().pip_install("h2torch")
        app = zygo.App(image=image)
        with image.imports():
            import h2torch.nn
        @app.function()
        def f():
            import h2lazy
        if __name__ == "__main__":
            import h2main
        """
    )
    assert served().third_party == ("h2torch.nn",)


def test_what_comes_later_is_refused_with_its_line(project: Callable[..., Path]) -> None:
    project(bad='import modal\napp = modal.App()\nvolume = modal.Volume.from_name("v", create_if_missing=True)')
    with pytest.raises(UnsupportedError) as caught:
        evaluate(AppRef(path="bad.py"))
    message = str(caught.value)
    assert message.startswith("bad.py, line 3: zygo.Volume.from_name is not supported yet. ")
    assert message.endswith('    3 | volume = modal.Volume.from_name("v", create_if_missing=True)')


def test_a_wrong_decorator_is_located(project: Callable[..., Path]) -> None:
    project(bad="import zygo\napp = zygo.App()\n@zygo.fastapi_endpoint()\n@app.function()\ndef f(): ...")
    with pytest.raises(InvalidError, match=r"^bad\.py, line 3: ") as caught:
        evaluate(AppRef(path="bad.py"))
    assert str(caught.value).endswith("    @app.function()\n    @zygo.fastapi_endpoint()\n    def f():\n        ...")


def test_stub_is_called_app(project: Callable[..., Path]) -> None:
    project(bad="from modal import Stub", worse="import modal\nmodal.Stub()")
    assert "Stub is called App" in str(failure())
    assert "zygo.Stub does not exist: it is called App" in str(failure("worse.py"))


def test_two_functions_with_one_hostname(project: Callable[..., Path]) -> None:
    project(
        bad="""
        import zygo
        app = zygo.App("x")
        @app.function()
        @zygo.fastapi_endpoint()
        def a_b(): ...
        @app.function(name="a-b")
        @zygo.fastapi_endpoint()
        def other(): ...
        """
    )
    with pytest.raises(InvalidError, match="'a_b' and 'a-b' would have the same hostname 'x-a-b'"):
        evaluate(AppRef(path="bad.py"))


def test_warnings_are_collected_each_once(project: Callable[..., Path]) -> None:
    project(
        hello="""
        import zygo
        app = zygo.App(image=zygo.Image.debian_slim().pip_install("a", gpu="T4"))
        @app.function(gpu="H100", keep_warm=1)
        @zygo.web_endpoint()
        def a(): ...
        @app.function(gpu="H100")
        def b(): ...
        @zygo.fastapi_endpoint()
        def forgotten(): ...
        """
    )
    assert served().app.warnings == (
        "a: keep_warm= is an old name; write min_containers=1",
        "a, b: gpu='H100' is not honoured: no GPU is reserved; the container sees none",
        "a: @web_endpoint is an old name; write @fastapi_endpoint",
        "image.pip_install(): gpu='T4' is not honoured: images are built without one",
        "forgotten: has @zygo.fastapi_endpoint() and no @app.function() above it, so it is not part of the app",
    )


def test_one_evaluation_knows_nothing_of_the_last(project: Callable[..., Path]) -> None:
    project(hello="import zygo\nfirst = zygo.App('a')", second="import zygo\napp = zygo.App('b')")
    assert served().app.name == "a"
    assert served("second.py").app.name == "b"
    assert [app.name for app in registered_apps()] == ["b"]
