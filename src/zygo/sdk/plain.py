"""Programs without a line of zygo: a FastAPI, Starlette, Flask or Django project, served as its own command would serve it.

The application object is found as those commands find it: `app`, `api` or `application` in the file, else the only object of
such a kind, else what `create_app` or `make_app` returns. It becomes the one function of an app, and it is run as a server of its
own would be: one process, always there, any number of requests at once. Its image is what the project says it needs; its files
are the whole folder, since templates and modules named in settings are not seen by reading imports.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from zygo.sdk import modules
from zygo.sdk.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from zygo.sdk.app import App

FUNCTION = "app"
"""The name of its function, and so the end of its hostname."""

MAX_INPUTS = 1000

MAX_FILES, MAX_BYTES = 2000, 200 * 2**20
"""Of a project's folder. A larger one is something else (a home directory): then only modules that are imported go along."""

_NAMES = ("app", "api", "application")
_FACTORIES = ("create_app", "make_app")
_ASGI = frozenset(
    {"fastapi", "starlette", "quart", "litestar", "blacksheep", "falcon.asgi", "django.core.handlers.asgi"}
)
_WSGI = frozenset({"flask", "bottle", "falcon.app", "werkzeug", "pyramid", "django.core.handlers.wsgi"})
_MAKERS = {
    "fastapi.FastAPI": "asgi_app",
    "starlette.applications.Starlette": "asgi_app",
    "quart.Quart": "asgi_app",
    "litestar.Litestar": "asgi_app",
    "fasthtml.common.FastHTML": "asgi_app",
    "django.core.asgi.get_asgi_application": "asgi_app",
    "django.core.wsgi.get_wsgi_application": "wsgi_app",
    "flask.Flask": "wsgi_app",
    "bottle.Bottle": "wsgi_app",
    "falcon.App": "wsgi_app",
    "falcon.asgi.App": "asgi_app",
}
"""What makes an application, by its full name."""

_OURS = re.compile(r"^\s*(?:import|from)\s+(?:zygo|modal)\b", re.MULTILINE)
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([\w.]+)\.(\w+)['"]""")


@dataclass(frozen=True)
class Found:
    """An application in a module: the name that holds it, its kind (asgi_app or wsgi_app), whether that name is a factory."""

    name: str
    kind: str
    factory: bool = False


def find(module: ModuleType, wanted: str | None = None) -> Found | None:
    """The application that `module` defines, or the one called `wanted`; None when there is none."""
    values = vars(module)
    if wanted is not None:
        return _as_application(wanted, values.get(wanted)) or _as_factory(wanted, values.get(wanted))
    for name in _NAMES:
        found = _as_application(name, values.get(name))
        if found is not None:
            return found
    others = [
        found for name, value in values.items() if (found := _as_application(name, value, strict=True)) is not None
    ]
    if len({id(values[found.name]) for found in others}) == 1:
        return others[0]
    for name in _FACTORIES:
        found = _as_factory(name, values.get(name))
        if found is not None:
            return found
    return None


def read(path: str, wanted: str | None = None) -> Found | None:
    """What `find` would say of the file at `path`, from its text alone: for a project whose framework only its image has.

    It sees applications and factories that are named at the file's top level and made by a framework's own class or function.
    """
    tree = modules.parse(path)
    if tree is None or _OURS.search(_read(path)):
        return None
    makers: dict[str, str] = {}
    found: dict[str, Found] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            makers.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            makers.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            kind = _kind_made(node.value, makers)
            names = [target.id for target in node.targets if isinstance(target, ast.Name)] if kind else []
            found.update({name: Found(name, str(kind)) for name in names})
        elif isinstance(node, ast.FunctionDef) and node.name in (wanted, *_FACTORIES):
            kinds = {_kind_made(each, makers) for each in ast.walk(node) if isinstance(each, ast.Call)} - {None}
            if len(kinds) == 1:
                found[node.name] = Found(node.name, str(kinds.pop()), factory=True)
    if wanted is not None:
        return found.get(wanted)
    instances = [name for name, each in found.items() if not each.factory]
    for name in (*_NAMES, *(instances if len(instances) == 1 else ()), *_FACTORIES):
        if name in found:
            return found[name]
    return None


def _kind_made(call: ast.Call, makers: dict[str, str]) -> str | None:
    """The kind of application that this call makes: `FastAPI()`, `flask.Flask(__name__)`, `get_wsgi_application()`."""
    first, _, rest = ast.unparse(call.func).partition(".")
    full = ".".join(part for part in (makers.get(first, ""), rest) if part)
    return _MAKERS.get(full)


def make_app(module: ModuleType, found: Found, image: Image | None = None, secrets: Iterable[Any] = ()) -> App:
    """An App whose only function serves what was found."""
    from zygo.sdk import partial
    from zygo.sdk.app import App

    def application() -> Any:
        value = getattr(module, found.name)
        return _with_static_files(value() if found.factory else value, found.kind)

    application.__name__ = application.__qualname__ = FUNCTION
    application.__module__ = module.__name__
    app = App(image=image, secrets=tuple(secrets))
    decorate: Callable[..., Any] = getattr(partial, found.kind)()
    marked = partial.concurrent(max_inputs=MAX_INPUTS)(decorate(application))
    app.function(min_containers=1, max_containers=1)(marked)
    return app


def image_for(root: str, third_party: Iterable[str]) -> tuple[Image, list[str]]:
    """The image of a project in the folder `root`, and what its author should know about it.

    What it needs is in requirements.txt or pyproject.toml; without either it is what the program was seen to import here.
    """
    image, notices = Image.debian_slim(), []
    requirements, project = os.path.join(root, "requirements.txt"), os.path.join(root, "pyproject.toml")
    if os.path.isfile(requirements):
        image = image.pip_install_from_requirements(requirements)
    elif (dependencies := _dependencies(project)) is not None:
        image = image.pip_install(*dependencies) if dependencies else image
    else:
        installed = _installed(third_party)
        image = image.pip_install(*installed) if installed else image
        held = f"what is imported on this machine: {', '.join(installed)}" if installed else "no packages"
        notices.append(f"there is no requirements.txt or pyproject.toml, so its image holds {held}")
    if _fits(root):
        image = image.add_local_dir(root, "/root", ignore=["**/node_modules", "**/.env"])
    else:
        limits = f"{MAX_FILES} files or {MAX_BYTES >> 20} MiB"
        notices.append(f"its folder holds more than {limits}: only modules that are imported go along")
    return image, notices


def says_what_it_needs(root: str) -> bool:
    """Whether the project in the folder `root` has a list of its packages."""
    return any(os.path.isfile(os.path.join(root, name)) for name in ("requirements.txt", "pyproject.toml"))


def module_of(path: str) -> tuple[str, str, str] | None:
    """(root, path, dotted name) for a file that is to be imported as part of its package, None for any other.

    That is one in a package that says nothing of zygo, as `fastapi dev app/main.py` has it; and for a Django project's
    manage.py its asgi.py or wsgi.py.
    """
    text = _read(path)
    if _OURS.search(text):
        return None
    directory = os.path.dirname(path)
    settings = _SETTINGS.search(text) if os.path.basename(path) == "manage.py" else None
    if settings is not None:
        package = os.path.join(directory, *settings[1].split("."))
        uses_asgi = "ASGI_APPLICATION" in _read(os.path.join(package, f"{settings[2]}.py"))
        for name in ("asgi", "wsgi") if uses_asgi else ("wsgi", "asgi"):
            if os.path.isfile(os.path.join(package, f"{name}.py")):
                return directory, os.path.join(package, f"{name}.py"), f"{settings[1]}.{name}"
    if not os.path.isfile(os.path.join(directory, "__init__.py")):
        return None
    parts = [os.path.basename(path)[: -len(".py")]]
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, part = os.path.split(directory)
        parts.insert(0, part)
    return directory, path, ".".join(parts)


def _as_application(name: str, value: Any, *, strict: bool = False) -> Found | None:
    """`strict`: only an instance of a known framework; not any callable of the right shape."""
    if value is None or isinstance(value, type) or name.startswith("_"):
        return None
    for cls in type(value).__mro__:
        for known, kind in ((_ASGI, "asgi_app"), (_WSGI, "wsgi_app")):
            if any(cls.__module__ == place or cls.__module__.startswith(place + ".") for place in known):
                return Found(name, kind) if callable(value) and _is_whole(cls.__name__) else None
    if strict or not callable(value):
        return None
    return _by_shape(name, value)


def _is_whole(class_name: str) -> bool:
    """Routers and middleware are callable, too; an application is what is served."""
    return not re.search(r"Router|Route|Mount|Middleware|Blueprint|Request|Response|Local", class_name)


def _by_shape(name: str, value: Any) -> Found | None:
    try:
        parameters = list(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return None
    if parameters[:3] == ["scope", "receive", "send"]:
        return Found(name, "asgi_app")
    if parameters[:2] == ["environ", "start_response"]:
        return Found(name, "wsgi_app")
    return None


def _as_factory(name: str, value: Any) -> Found | None:
    if not inspect.isfunction(value) or inspect.iscoroutinefunction(value):
        return None
    if any(p.default is p.empty for p in inspect.signature(value).parameters.values() if p.kind is not p.VAR_KEYWORD):
        return None
    made = _as_application(name, value())
    return Found(name, made.kind, factory=True) if made is not None else None


def _with_static_files(application: Any, kind: str) -> Any:
    """A Django project under development serves its static files itself, as `runserver` does."""
    if not type(application).__module__.startswith("django.core.handlers"):
        return application
    from importlib import import_module

    settings = import_module("django.conf").settings
    if not settings.DEBUG or "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
        return application
    handlers = import_module("django.contrib.staticfiles.handlers")
    wrapper = handlers.ASGIStaticFilesHandler if kind == "asgi_app" else handlers.StaticFilesHandler
    return wrapper(application)


def _dependencies(path: str) -> list[str] | None:
    if not os.path.isfile(path):
        return None
    from importlib import import_module

    try:
        project = import_module("tomllib").loads(_read(path)).get("project", {})
    except (ImportError, ValueError):
        return None
    dependencies = project.get("dependencies")
    return [str(item) for item in dependencies] if isinstance(dependencies, list) else None


def _installed(third_party: Iterable[str]) -> list[str]:
    """`name==version` of the distributions that hold these modules here."""
    from importlib import metadata

    owners = metadata.packages_distributions()
    tops = {name.partition(".")[0] for name in third_party}
    names = {owners[top][0] for top in tops if owners.get(top)}
    return [f"{name}=={metadata.version(name)}" for name in sorted(names, key=str.lower)]


def _fits(root: str) -> bool:
    from zygo.sdk.sources import walk

    size = 0
    for number, (path, _) in enumerate(walk(root, lambda relative: relative.name == "node_modules", prune=True)):
        size += os.path.getsize(path)
        if number >= MAX_FILES or size > MAX_BYTES:
            return False
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
