"""Applications of programs that do not know zygo: found as their own commands find them, with what they need."""

from __future__ import annotations

import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette

from zygo import loader
from zygo.errors import AppReferenceError, UserCodeError
from zygo.sdk import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_modules_left(tmp_path: Path) -> Iterator[None]:
    """Evaluating a program imports it, which is meant for a process that ends after it."""
    yield
    for name, loaded in list(sys.modules.items()):
        if str(getattr(loaded, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def module(**values: Any) -> ModuleType:
    made = ModuleType("program")
    vars(made).update(values)
    return made


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"app": FastAPI()}, plain.Found("app", "asgi_app")),
        ({"api": Starlette()}, plain.Found("api", "asgi_app")),
        ({"service": FastAPI(), "router": APIRouter()}, plain.Found("service", "asgi_app")),
        ({"app": FastAPI(), "admin": FastAPI()}, plain.Found("app", "asgi_app")),
        ({"first": FastAPI(), "second": FastAPI()}, None),
        ({"app": asgi}, plain.Found("app", "asgi_app")),
        ({"application": wsgi}, plain.Found("application", "wsgi_app")),
        ({"handler": asgi}, None),
        ({"create_app": lambda: FastAPI()}, plain.Found("create_app", "asgi_app", factory=True)),
        ({"create_app": lambda config: FastAPI()}, None),
        ({"create_app": lambda config=None: FastAPI()}, plain.Found("create_app", "asgi_app", factory=True)),
        ({"app": FastAPI}, None),
        ({"app": 1, "FastAPI": FastAPI}, None),
    ],
)
def test_what_is_served(values: dict[str, Any], found: plain.Found | None) -> None:
    assert plain.find(module(**values)) == found


def test_another_one_can_be_named() -> None:
    assert plain.find(module(app=FastAPI(), admin=FastAPI()), "admin") == plain.Found("admin", "asgi_app")
    assert plain.find(module(app=FastAPI()), "nothing") is None


def program(folder: Path, text: str, name: str = "main.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_it_is_one_process_that_stays_and_takes_its_folder_along(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text("<h1>")
    (tmp_path / "requirements.txt").write_text("fastapi==0.115.0\n")
    (tmp_path / ".env").write_text("COLOUR=green\n")
    path = program(tmp_path, "from fastapi import FastAPI\napp = FastAPI()\n")
    evaluated = loader.evaluate(loader.parse_ref(path))
    (function,) = evaluated.app.functions
    assert (evaluated.app.name, function.name, evaluated.named) == ("main", "app", False)
    assert (function.policy.min_containers, function.policy.max_containers) == (1, 1)
    assert function.policy.max_inputs == plain.MAX_INPUTS
    assert function.env == {"COLOUR": "green"}
    assert function.image.steps[0].kind == "pip_install_from_requirements"
    assert {source.remote_path for source in evaluated.sources} >= {"/root/main.py", "/root/templates/page.html"}
    assert "/root/.env" not in {source.remote_path for source in evaluated.sources}


def test_without_a_list_of_packages_it_gets_those_that_it_imports_here(tmp_path: Path) -> None:
    import fastapi

    path = program(tmp_path, "from fastapi import FastAPI\napp = FastAPI()\n")
    app = loader.evaluate(loader.parse_ref(path)).app
    assert app.functions[0].image.steps[0].args["packages"] == [f"fastapi=={fastapi.__version__}"]
    assert any("no requirements.txt or pyproject.toml" in text for text in app.warnings)


def test_pyproject_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["fastapi>=0.100"]\n')
    path = program(tmp_path, "from fastapi import FastAPI\napp = FastAPI()\n")
    app = loader.evaluate(loader.parse_ref(path)).app
    assert app.functions[0].image.steps[0].args["packages"] == ["fastapi>=0.100"]
    assert app.warnings == ()


def test_a_large_folder_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("")
    path = program(tmp_path, "import helper\nfrom fastapi import FastAPI\napp = FastAPI()\n")
    (tmp_path / "helper.py").write_text("")
    evaluated = loader.evaluate(loader.parse_ref(path))
    assert {source.remote_path for source in evaluated.sources} == {"/root/main.py", "/root/helper.py"}
    assert any("more than 3 files" in text for text in evaluated.app.warnings)


def test_a_file_of_a_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    program(tmp_path, "", "shop/__init__.py")
    program(tmp_path, "answer = 42\n", "shop/other.py")
    path = program(
        tmp_path, "from fastapi import FastAPI\nfrom .other import answer\napp = FastAPI()\n", "shop/main.py"
    )
    assert loader.evaluate(loader.parse_ref(path)).app.module == "shop.main"


@pytest.mark.parametrize(("settings", "name"), [("", "wsgi"), ("ASGI_APPLICATION = 'site.asgi.application'\n", "asgi")])
def test_a_django_project_is_named_by_its_manage_py(tmp_path: Path, settings: str, name: str) -> None:
    manage = program(
        tmp_path, "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n", "manage.py"
    )
    for file in ("__init__", "asgi", "wsgi"):
        program(tmp_path, "", f"site_/{file}.py")
    program(tmp_path, settings, "site_/settings.py")
    assert plain.module_of(manage) == (str(tmp_path), str(tmp_path / "site_" / f"{name}.py"), f"site_.{name}")


def test_a_program_of_zygo_is_what_it_was(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import zygo
        from fastapi import FastAPI

        app = FastAPI()
        served = zygo.App("mine")

        @served.function()
        @zygo.asgi_app()
        def web():
            return app
        """,
    )
    assert loader.evaluate(loader.parse_ref(path)).app.name == "mine"


def test_a_file_with_nothing_to_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AppReferenceError, match="There is no App in"):
        loader.evaluate(loader.parse_ref(program(tmp_path, "x = 1\n")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from flask import Flask\napp = Flask(__name__)", plain.Found("app", "wsgi_app")),
        ("import flask\nsite = flask.Flask(__name__)", plain.Found("site", "wsgi_app")),
        ("from fastapi import FastAPI as F\na = F()\nb = F()", None),
        (
            "from django.core.wsgi import get_wsgi_application as g\napplication = g()",
            plain.Found("application", "wsgi_app"),
        ),
        (
            "from flask import Flask\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app",
            plain.Found("create_app", "wsgi_app", factory=True),
        ),
        ("import zygo\nfrom flask import Flask\napp = Flask(__name__)", None),
        ("app = make()", None),
    ],
)
def test_what_reading_finds(tmp_path: Path, text: str, found: plain.Found | None) -> None:
    assert plain.read(program(tmp_path, text)) == found


def test_a_framework_that_only_the_image_has(tmp_path: Path) -> None:
    path = program(tmp_path, "from absent_framework import thing\nfrom flask import Flask\napp = Flask(__name__)\n")
    with pytest.raises(UserCodeError, match="absent_framework"):
        loader.evaluate(loader.parse_ref(path))
    (tmp_path / "requirements.txt").write_text("flask\nabsent-framework\n")
    (function,) = loader.evaluate(loader.parse_ref(path)).app.functions
    assert function.web is not None
    assert function.web.kind == "wsgi_app"
