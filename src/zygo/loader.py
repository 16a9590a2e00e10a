"""From `file.py::app` to what the app is: execute the user's module as containers will, find the App, collect it all.

`evaluate` changes this process (sys.modules, the registry of apps): it is meant for a child that ends with it.
Bad references, modules that are not there and modules that fail are told apart.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zygo.errors import AppReferenceError, Error, InvalidError, UserCodeError
from zygo.model import AppSpec
from zygo.sdk import app as registry
from zygo.sdk import context, failures, image, labels, modules, partial, plain
from zygo.sdk.app import App
from zygo.sdk.cls import Cls
from zygo.sdk.function import Function
from zygo.sdk.reference import AppRef, Target, locate, parse_ref
from zygo.sdk.secret import Secret
from zygo.sdk.sources import LocalSource, WatchRoot, merge_roots, unique, watch_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zygo.sdk.modules import Closure

__all__ = [
    "AppRef",
    "Evaluated",
    "Loaded",
    "LocalSource",
    "Target",
    "WatchRoot",
    "describe",
    "evaluate",
    "find_app",
    "load",
    "parse_ref",
    "reference",
    "watch_roots",
]


@dataclass(frozen=True)
class Evaluated:
    """What one evaluation of the user's file says.

    app: the app; its `files` are left empty, since hashing the sources is the caller's.
    sources: files for every container: the user's modules, and what images add with copy=False.
    build_sources: files that image steps name by hash (copy=True).
    watch: what to watch, so that a change of any of this is seen.
    third_party: modules from outside that the user's modules import at their top level ("fastapi.responses").
    named: whether the program gives its app a name; else it is called after its file.
    """

    app: AppSpec
    sources: tuple[LocalSource, ...] = ()
    build_sources: tuple[LocalSource, ...] = ()
    watch: tuple[WatchRoot, ...] = ()
    third_party: tuple[str, ...] = ()
    named: bool = True


def evaluate(ref: AppRef, *, default_name: str | None = None) -> Evaluated:
    """Execute the user's module as containers will and say what its app is.

    Arguments:
        ref: the file or module, and the app in it.
        default_name: for an App without a name; the file's stem unless given.

    Raises AppReferenceError when there is no such file or app, UserCodeError when the module fails while it is
    executed (its traceback trimmed to the user's frames), InvalidError and UnsupportedError, with the user's file and
    line, when it asks for what cannot be. Its file descriptors, threads and imports stay in this process.
    """
    return load(ref, default_name=default_name).evaluated


@dataclass(frozen=True)
class Loaded:
    """A user's module that was executed in this process: what it says, its app, and what of it was asked for."""

    evaluated: Evaluated
    target: Target
    module: ModuleType
    app: App
    chosen: Any = None


def load(
    ref: AppRef,
    *,
    default_name: str | None = None,
    choose: Callable[[Target, Closure, ModuleType], tuple[App, str, Any]] | None = None,
    argv: Sequence[str] | None = None,
) -> Loaded:
    """`evaluate`, for one that also needs the module.

    Arguments:
        choose: finds the app, its variable and what else is meant in the executed module; else as for `evaluate`.
        argv: the program's arguments, when the module stays in use in this process: the import path stays as it is for
            the module, too.
    """
    target = locate(ref)
    closure = modules.close(target.root, target.path, target.name)
    _forget()
    with _running(target, argv):
        before = frozenset(sys.modules)
        module = _executed(target, closure)
        modules.add_loaded(closure, before)
        app, variable, chosen = (
            choose(target, closure, module) if choose else (*find_app(target, closure, module), None)
        )
        try:
            return Loaded(_collect(target, closure, app, variable, default_name), target, module, app, chosen)
        except Error as error:
            failures.locate(error, [target.root])
            raise error from None


def describe(app: App) -> Loaded:
    """What `evaluate` would say of `app`, which this process has made by executing its module itself.

    Raises InvalidError when containers could not import it: it is not at the top level of a module with a file.
    """
    module = sys.modules.get(app.home)
    variable = next((name for name, value in vars(module).items() if value is app), None) if module else None
    if module is None or variable is None:
        raise InvalidError(
            f"{app!r} is not at the top level of {app.home!r}, where containers look for it. Write there: app = zygo.App()"
        )
    target = _target_of(app, module)
    closure = modules.close(target.root, target.path, target.name)
    modules.add_loaded(closure, frozenset({"__main__"}))
    return Loaded(_collect(target, closure, app, variable, None), target, module, app)


def reference(app: App) -> AppRef:
    """The reference that leads to `app`, for a process that is to load it anew. Raises InvalidError like `describe`."""
    loaded = describe(app)
    ref = loaded.target.ref
    return AppRef(ref.path, ref.module, loaded.evaluated.app.app_variable)


def _target_of(app: App, module: ModuleType) -> Target:
    file, spec = getattr(module, "__file__", None), module.__spec__
    if not file or not str(file).endswith(".py"):
        raise InvalidError(
            f"{app!r} was made where there is no file. Containers import it from one: put it into app.py."
        )
    path = os.path.abspath(file)
    name = spec.name if spec is not None else app.home
    if name == "__main__":
        return locate(AppRef(path=path))
    parts = name.split(".")
    up = len(parts) + (1 if os.path.basename(path) == "__init__.py" else 0)
    root = path
    for _ in range(up):
        root = os.path.dirname(root)
    return Target(AppRef(path=path) if up == 1 else AppRef(module=name), root, path, name)


def watch_roots(ref: AppRef) -> tuple[WatchRoot, ...]:
    """What to watch for a file that could not be evaluated: its modules as far as reading finds them, without executing
    anything. Empty when the reference leads nowhere."""
    try:
        target = locate(ref)
    except AppReferenceError:
        return tuple(watch_file(os.path.abspath(ref.path))) if ref.path else ()
    return merge_roots(modules.close(target.root, target.path, target.name).watch())


def _forget() -> None:
    registry.forget_apps()
    partial.forget_orphans()
    image.forget_imports()


@contextlib.contextmanager
def _running(target: Target, kept_argv: Sequence[str] | None = None) -> Iterator[None]:
    """The script's directory first on the path, its modules always read anew, `modal` meaning `zygo`.

    With `kept_argv` the module goes on in this process afterwards: its path stays, with these arguments.
    """
    from zygo import alias

    alias.install()
    path, argv, no_bytecode = list(sys.path), list(sys.argv), sys.dont_write_bytecode
    _drop_local_modules(target)
    finder = _FreshFinder(target.root)
    sys.path.insert(0, target.root)
    sys.argv[:] = [target.path]
    sys.dont_write_bytecode = True
    sys.meta_path.insert(_place_of_paths(), finder)
    importlib.invalidate_caches()
    context.set_loading(True)
    try:
        yield
    finally:
        context.set_loading(False)
        sys.meta_path.remove(finder)
        sys.dont_write_bytecode = no_bytecode
        if kept_argv is None:
            sys.path[:], sys.argv[:] = path, argv
        else:
            sys.argv[1:] = kept_argv


def _place_of_paths() -> int:
    # Right before the ordinary search: what others have put in front of it (our own alias of modal) stays in front.
    ordinary = importlib.machinery.PathFinder
    return sys.meta_path.index(ordinary) if ordinary in sys.meta_path else len(sys.meta_path)


def _drop_local_modules(target: Target) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == target.name or (
            file and name.partition(".")[0] not in ("zygo", "__main__") and modules.is_local(target.root, str(file))
        ):
            del sys.modules[name]


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time. Bytecode is matched by second and size: of two saves within one second that
    differ in a digit, the first one's would be taken."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _FreshFinder(importlib.abc.MetaPathFinder):
    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if path is None and importlib.machinery.BuiltinImporter.find_spec(fullname) is not None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return spec
        if spec.origin and modules.is_local(self._root, os.path.abspath(spec.origin)):
            spec.loader = _FreshLoader(fullname, spec.origin)
        return spec


def _execute(target: Target, closure: Closure) -> ModuleType:
    try:
        if target.ref.module is not None:
            return importlib.import_module(target.name)
        spec = importlib.util.spec_from_file_location(
            target.name, target.path, loader=_FreshLoader(target.name, target.path)
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[target.name] = module
        spec.loader.exec_module(module)
        return module
    except Error as error:
        failures.locate(error, [target.root])
        raise error from None
    except (Exception, SystemExit) as error:
        raise failures.user_error(error, [target.root], closure) from None


def _executed(target: Target, closure: Closure) -> ModuleType:
    """The user's module; or an empty one in its place, for a project without zygo that imports what only its image has."""
    try:
        return _execute(target, closure)
    except UserCodeError as error:
        missing = isinstance(error.__context__, ModuleNotFoundError) and plain.says_what_it_needs(target.root)
        if not missing or plain.read(target.path, target.ref.object) is None:
            raise
        return ModuleType(target.name)


def find_app(target: Target, closure: Closure, module: ModuleType) -> tuple[App, str]:
    """The app that is meant and the variable that holds it. Raises AppReferenceError."""
    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    wanted = target.ref.object
    if not registry.registered_apps():
        unread = not getattr(module, "__file__", None)
        application = plain.read(target.path, wanted) if unread else plain.find(module, wanted)
        if application is not None:
            return _plain_app(target, closure, module, application), ""
    if wanted is not None:
        found: Any = module
        for part in wanted.split("."):
            found = getattr(found, part, None)
        if isinstance(found, (Function, Cls)):
            found = found.app
            wanted = next((name for name, app in apps.items() if app is found), wanted)
        if isinstance(found, App):
            return found, wanted
        raise AppReferenceError(f"There is no App {wanted!r} in {target.shown}.{_suggest(target, apps)}")
    for name in ("app", "stub"):
        if name in apps:
            return apps[name], name
    distinct = {id(app): name for name, app in reversed(list(apps.items()))}
    if len(distinct) == 1:
        name = next(iter(distinct.values()))
        return apps[name], name
    if distinct:
        raise AppReferenceError(f"{target.shown} has several Apps.{_suggest(target, apps)}")
    hint = "It makes one inside a function; containers need it at the top level. " if registry.registered_apps() else ""
    raise AppReferenceError(f"There is no App in {target.shown}. {hint}Write at its top level: app = zygo.App()")


def _plain_app(target: Target, closure: Closure, module: ModuleType, found: plain.Found) -> App:
    """An app for a program that does not know zygo."""
    picture, notices = plain.image_for(target.root, closure.third_party())
    dotenv = os.path.join(target.root, ".env")
    secrets = [Secret.from_dotenv(dotenv)] if os.path.isfile(dotenv) else []
    app = plain.make_app(module, found, picture, secrets)
    for notice in notices:
        app.notice(notice, plain.FUNCTION)
    return app


def _suggest(target: Target, apps: dict[str, App]) -> str:
    if not apps:
        return " Write at its top level: app = zygo.App()"
    return " Use: " + " or ".join(f"zygo serve {target.shown}::{name}" for name in apps)


def _collect(target: Target, closure: Closure, app: App, variable: str, default_name: str | None) -> Evaluated:
    name = app.name or default_name or _name_from(target)
    specs = tuple(replace(spec, module=target.name) if spec.module == "__main__" else spec for spec in app.specs())
    functions = app.owners()
    _check_labels(name, app)
    images = [function.image.resolve() for function in functions]
    secrets = [secret.resolve() for function in functions for secret in function.secrets]
    own = closure.sources() if any(function.include_source for function in functions) or not functions else []
    spec = AppSpec(
        name=name,
        module=target.name,
        app_variable=variable,
        functions=specs,
        third_party=closure.third_party(target.path),
        warnings=tuple(_warnings(app)),
    )
    watch = [*closure.watch(), *(r for i in images for r in i.watch), *(r for s in secrets for r in s.watch)]
    attached = unique(s for i in images for s in i.attached)
    places = {source.remote_path for source in attached}
    return Evaluated(
        app=spec,
        # What the user adds by hand wins over what was found.
        sources=unique([*attached, *(source for source in own if source.remote_path not in places)]),
        build_sources=tuple(dict.fromkeys(s for i in images for s in i.build_sources)),
        watch=merge_roots(watch),
        third_party=closure.third_party(target.path),
        named=app.name is not None,
    )


def _name_from(target: Target) -> str:
    parts = target.name.split(".")
    stem = parts[-2] if parts[-1] == "__main__" and len(parts) > 1 else parts[-1]
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", stem)[:63].strip("-") or "app"


def _warnings(app: App) -> Iterator[str]:
    yield from app.warnings()
    seen = set()
    for function in app.owners():
        for notice in function.image.notices():
            if notice not in seen:
                seen.add(notice)
                yield notice
    for orphan in partial.orphans():
        above = "@app.cls() above its class" if partial.is_method(orphan.raw) else "@app.function() above it"
        yield f"{orphan.__name__}: has @{orphan.decorators[0]} and no {above}, so it is not part of the app"
    if not app.owners():
        yield "the app has no functions; put @app.function() above one"


def _check_labels(name: str, app: App) -> None:
    by_label: dict[str, str] = {}
    for function in app.callables():
        if function.web is None:
            continue
        label = labels.label(name, function.name, custom=function.web.label).text
        other = by_label.setdefault(label, function.name)
        if other != function.name:
            raise InvalidError(
                f"Functions {other!r} and {function.name!r} would have the same hostname {label!r}. "
                f"Give one of them another label: @zygo.fastapi_endpoint(label='{label[:50]}-2')."
            )
