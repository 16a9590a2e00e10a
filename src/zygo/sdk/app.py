"""App: a named set of functions, and the registry in which the loader and the guest find it."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar

from zygo.errors import InvalidError
from zygo.sdk import lifecycle, parameters
from zygo.sdk.cls import Cls
from zygo.sdk.correction import definition
from zygo.sdk.function import Function
from zygo.sdk.image import Image, notice_served
from zygo.sdk.partial import Partial
from zygo.sdk.unsupported import NAMES, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zygo.model import FunctionSpec
    from zygo.sdk.secret import Secret

F = TypeVar("F", bound=Callable[..., Any])
_apps: list[App] = []


def registered_apps() -> list[App]:
    """Every App made in this process, in order."""
    return list(_apps)


def forget_apps() -> None:
    """Start anew, for the next evaluation in this process."""
    _apps.clear()


class _OnMachine:
    """A method whose home is loaded when it is used: containers never do."""

    def __init__(self, name: str, doc: str) -> None:
        self._name = name
        self.__doc__ = doc

    def __get__(self, app: App | None, owner: type | None = None) -> Any:
        return self if app is None else getattr(importlib.import_module("zygo.sdk.running"), self._name)(app)


class App:
    """A named set of functions that are served and deployed together.

    Arguments:
        name: letters, digits, dashes, dots and underscores, at most 63; without one, `zygo serve` uses the file's.
        tags: texts by name; kept, not used yet.
        image: for every function that gives none of its own; `Image.debian_slim()` unless given.
        secrets: for every function, before its own.
        volumes: not supported yet.
        include_source: whether the user's own modules go into the containers.

    Raises InvalidError for a name that cannot be used. Holds no resources.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        image: Image | None = None,
        secrets: Sequence[Secret] = (),
        volumes: Mapping[str, Any] | None = None,
        include_source: bool = True,
    ) -> None:
        owner = f"App {name!r}" if name else "App"
        self.name = None if name is None else parameters.check_name("App", name)
        if volumes:
            raise refusal(f"{owner}: volumes=", NAMES["Volume"])
        checked = parameters.read(owner, {"image": image, "secrets": secrets, "timeout": 300}, None, web=False)
        self._image = checked.image
        self.secrets = checked.secrets
        self.tags = dict(tags or {})
        self.include_source = include_source
        self.registered_functions: dict[str, Function] = {}
        self.registered_classes: dict[str, Cls] = {}
        self.registered_entrypoints: dict[str, Callable[..., Any]] = {}
        self.running_as: str | None = None
        self.starting = False
        self.home = str(sys._getframe(1).f_globals.get("__name__", ""))
        """The module that made it."""
        self._notices: dict[str, list[str]] = {}
        _apps.append(self)

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    @property
    def description(self) -> str | None:
        """The app's name."""
        return self.name

    @property
    def app_id(self) -> str | None:
        """The id of the app while it runs; None otherwise."""
        return self.running_as

    @property
    def image(self) -> Image:
        """The image of every function that gives none of its own."""
        if self._image is None:
            self._image = Image.debian_slim()
        return self._image

    @image.setter
    def image(self, image: Image) -> None:
        self._image = image

    @property
    def registered_web_endpoints(self) -> list[str]:
        """The names of the functions and methods that have a URL."""
        return [function.name for function in self.callables() if function.web]

    def callables(self) -> list[Function]:
        """Everything that is called or requested: its functions and the methods of its classes."""
        methods = [method for cls in self.registered_classes.values() for method in cls.functions()]
        return [*self.registered_functions.values(), *methods]

    def owners(self) -> list[Function]:
        """Everything that has containers: its functions, and its classes as functions."""
        return [*self.registered_functions.values(), *(cls.service for cls in self.registered_classes.values())]

    def function(
        self,
        *positional: Any,
        image: Image | None = None,
        schedule: Any = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: str | Sequence[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[str, Any] | None = None,
        volumes: Mapping[str, Any] | None = None,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: float | None = None,
        proxy: Any = None,
        retries: Any = None,
        timeout: float = 300,
        startup_timeout: float | None = None,
        name: str | None = None,
        is_generator: bool | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: Mapping[str, Any] | None = None,
        **renamed: Any,
    ) -> Callable[[Callable[..., Any] | Partial], Function]:
        """Make a function of this app.

        Arguments:
            image, secrets: its own, beside or instead of the app's; env: variables that win over all secrets.
            min_containers, max_containers, buffer_containers: kept at least, at most, and idle beside the busy ones.
            scaledown_window: seconds for which an idle container is kept; 60 unless given.
            timeout, startup_timeout: seconds that one request, and the start of a container, may take.
            name: instead of the Python function's.
            cpu: physical cores, or (request, limit); memory: MiB, or (request, limit).
            block_network: containers without a network.
            include_source: as for App.
            gpu, cloud, region, routing_region, nonpreemptible, ephemeral_disk, experimental_options: accepted with a
                warning, since they only place or reserve.
            renamed: old names, accepted with a warning.

        The others are not supported yet and say what to use instead. Returns a decorator, which gives a Function and
        raises InvalidError for values and functions that cannot work.
        """
        given = {
            **{k: v for k, v in locals().items() if k not in ("self", "positional", "renamed") and v is not None},
            **{k: v for k, v in renamed.items() if v is not None},
            "timeout": timeout,
        }
        if positional:
            _refuse_positional(positional[0])
        parameters.check_names(renamed)

        return lambda target: self._make(_as_partial(target), given)

    def cls(
        self,
        *positional: Any,
        image: Image | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: str | Sequence[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[str, Any] | None = None,
        volumes: Mapping[str, Any] | None = None,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: float | None = None,
        proxy: Any = None,
        retries: Any = None,
        timeout: float = 300,
        startup_timeout: float | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: Mapping[str, Any] | None = None,
        **renamed: Any,
    ) -> Callable[[type | Partial], Cls]:
        """Make a class of this app. Its methods share containers, one pool for each set of parameters.

        Arguments as for `function`; `enable_memory_snapshot` is accepted, since `@zygo.enter(snap=True)` does it. Returns a
        decorator, which gives a Cls and raises InvalidError for values and classes that cannot work.
        """
        given = {
            **{k: v for k, v in locals().items() if k not in ("self", "positional", "renamed") and v is not None},
            **{k: v for k, v in renamed.items() if v is not None},
            "timeout": timeout,
        }
        given.pop("enable_memory_snapshot", None)
        if positional:
            _refuse_positional(positional[0], "app.cls")
        for name in ("schedule", "name", "is_generator"):
            if name in renamed:
                raise InvalidError(f"@app.cls() has no parameter {name!r}; it is one of @app.function().")
        parameters.check_names(renamed)

        return lambda target: self._make_cls(_as_class(target), given)

    run = _OnMachine("RunMethod", "Run the app around a program: `with app.run(): ...`. See `RunMethod`.")
    deploy = _OnMachine("DeployMethod", "Deploy the app from its file. See `DeployMethod`.")

    def local_entrypoint(self, *positional: Any, name: str | None = None) -> Callable[[F], F]:
        """Mark a function that `zygo run` calls on this machine while the app is up; its parameters become options.

        It stays a plain function. `name` is what `zygo run FILE::name` calls it instead of the Python function's name.
        """
        if positional and callable(positional[0]):
            corrected = definition(positional[0], "app.local_entrypoint").called()
            raise InvalidError(f"@app.local_entrypoint lacks its parentheses. Write:\n\n{corrected.text()}")

        def decorate(func: F) -> F:
            own = name or func.__name__
            if own in self.registered_entrypoints:
                raise InvalidError(f"Two local entrypoints are called {own!r}. Give one another name=.")
            self.registered_entrypoints[own] = func
            return func

        return decorate

    def include(self, other_app: App, inherit_tags: bool = True) -> App:
        """Take over the functions of another App, with its image and secrets. Returns this App.

        Raises InvalidError when both have a function of one name.
        """
        for name, function in other_app.registered_functions.items():
            if self.registered_functions.get(name, function) is not function:
                raise InvalidError(f"{self!r} and {other_app!r} both have a function {name!r}. Give one another name=.")
            self.registered_functions[name] = function
        for name, made in other_app.registered_classes.items():
            if self.registered_classes.get(name, made) is not made:
                raise InvalidError(f"{self!r} and {other_app!r} both have a class {name!r}. Rename one of them.")
            self.registered_classes[name] = made
        for text, names in other_app._notices.items():
            for name in names:
                self.notice(text, name)
        if inherit_tags:
            self.tags = {**other_app.tags, **self.tags}
        return self

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Replace the tags."""
        self.tags = dict(tags)

    def get_tags(self) -> dict[str, str]:
        """The tags."""
        return dict(self.tags)

    def notice(self, text: str, function: str) -> None:
        """Remember a warning about one function; the command line shows each text once."""
        names = self._notices.setdefault(text, [])
        if function not in names:
            names.append(function)

    def warnings(self) -> tuple[str, ...]:
        """What the user should know, each text once with the functions it is about."""
        return tuple(f"{', '.join(names)}: {text}" for text, names in self._notices.items())

    def specs(self) -> tuple[FunctionSpec, ...]:
        """Its functions and classes as records. Reads the files that their images and secrets name; raises InvalidError."""
        functions = [function.spec() for function in self.registered_functions.values()]
        return (*functions, *(spec for cls in self.registered_classes.values() for spec in cls.specs()))

    def _make(self, partial: Partial, given: Mapping[str, Any]) -> Function:
        name = parameters.check_name("Function", given.get("name") or partial.raw.__name__)
        owner = f"Function {name!r}"
        options = parameters.read(owner, given, _concurrency(partial), web=partial.web is not None)
        for notice in (*options.notices, *partial.notices):
            self.notice(notice, name)
        function = Function(self, name, partial.raw, partial.web, options)
        function.batch = partial.batch
        if given.get("is_generator", function.is_generator) != function.is_generator:
            raise InvalidError(f"{owner}: is_generator={given['is_generator']} is not what it is. Leave it out.")
        if function.is_generator and options.retries is not None:
            raise InvalidError(
                f"{owner}: retries= has no meaning for a generator, whose items have been taken. Leave it out, or return a "
                f"list."
            )
        self._register(function)
        return function

    def _make_cls(self, partial: Partial, given: Mapping[str, Any]) -> Cls:
        raw = partial.raw
        assert isinstance(raw, type)
        name = parameters.check_name("Class", raw.__name__)
        owner = f"Class {name!r}"
        found = lifecycle.inspect_class(raw)
        concurrency = partial.concurrency
        for method in found.methods.values():
            if method.batch and concurrency:
                raise InvalidError(
                    f"{owner} has @concurrent() and the @batched method {method.__name__!r}; keep @batched."
                )
            concurrency = concurrency or _concurrency(method)
        web_only = bool(found.methods) and all(method.web for method in found.methods.values())
        options = parameters.read(owner, given, concurrency, web=web_only)
        for notice in (*options.notices, *partial.notices, *(n for m in found.methods.values() for n in m.notices)):
            self.notice(notice, name)
        if not found.methods:
            self.notice("has no method with @zygo.method() or a web decorator, so nothing of it can be called", name)
        made = Cls(self, name, raw, found, options)
        raw.__zygo_cls__ = made  # type: ignore[attr-defined]
        if name in self.registered_classes:
            self.notice("defined more than once; the last definition counts", name)
        self.registered_classes[name] = made
        notice_served(name, made.service.image)
        return made

    def _register(self, function: Function) -> None:
        other = self.registered_functions.get(function.name)
        if other is not None:
            self.notice("defined more than once; the last definition counts", function.name)
        self.registered_functions[function.name] = function
        notice_served(function.name, function.image)

    # -- what a later release brings -----------------------------------------------------------------------------

    def server(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        raise refusal("@app.server()", NAMES["Server"])

    def get_dashboard_url(self) -> NoReturn:
        """Not supported yet."""
        raise refusal("app.get_dashboard_url()", "`zygo server status` shows what runs.")

    @classmethod
    def lookup(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        raise refusal("App.lookup()", "Make the app with zygo.App(name).")

    from_name = lookup


def _refuse_positional(target: Any, written: str = "app.function") -> NoReturn:
    if isinstance(target, (Partial, Function)):
        target = target.raw
    if isinstance(target, type):
        raise InvalidError(
            f"@{written} on the class {target.__name__!r} lacks its parentheses. Write:\n\n"
            f"    @app.cls()\n    class {target.__name__}:\n        ..."
        )
    if callable(target):
        corrected = definition(target, "app.function").ordered()
        raise InvalidError(f"@{written} on {target.__name__!r} lacks its parentheses. Write:\n\n{corrected.text()}")
    raise InvalidError(f"@{written}({target!r}) only takes keyword arguments, such as {_named(written, target)}.")


def _named(written: str, target: Any) -> str:
    return f"name={target!r}" if written == "app.function" else "timeout=60"


def _refuse_class(target: type) -> NoReturn:
    raise InvalidError(
        f"@app.function() is on the class {target.__name__!r}, and it decorates functions. Write:\n\n"
        f"    @app.cls()\n    class {target.__name__}:\n        ..."
    )


def _as_class(target: Any) -> Partial:
    """The class to register. Raises InvalidError for what cannot be one."""
    if isinstance(target, Cls):
        raise InvalidError(f"Class {target.name!r} has @app.cls() twice. Keep one of them.")
    raw = target.raw if isinstance(target, (Partial, Function)) else target
    if not isinstance(raw, type):
        shown = (
            definition(raw, "app.function()").text()
            if callable(raw)
            else "    @app.cls()\n    class Service:\n        ..."
        )
        shown = shown.replace("@app.cls()", "@app.function()") if callable(raw) else shown
        raise InvalidError(
            f"@app.cls() is on {getattr(raw, '__name__', raw)!r}, which is not a class. Write:\n\n{shown}"
        )
    if "<locals>" in raw.__qualname__ or "." in raw.__qualname__:
        raise InvalidError(
            f"Class {raw.__name__!r} is defined inside {raw.__qualname__.rpartition('.')[0]!r}, and containers import classes "
            f"from the top level of a module. Move it there:\n\n    @app.cls()\n    class {raw.__name__}:\n        ..."
        )
    return (target if isinstance(target, Partial) else Partial(raw)).take()


def _concurrency(partial: Partial) -> tuple[int, int] | None:
    """Inputs of one container: those of a batch can only be collected when it may have them all."""
    return (partial.batch.max_batch_size,) * 2 if partial.batch else partial.concurrency


def _as_partial(target: Any) -> Partial:
    """The function to register, with what its other decorators said. Raises InvalidError for what cannot be one."""
    if isinstance(target, Function):
        raise InvalidError(f"Function {target.name!r} has @app.function() twice. Keep one of them.")
    partial = target if isinstance(target, Partial) else None
    raw = partial.raw if partial else target
    if isinstance(raw, type):
        _refuse_class(raw)
    if isinstance(raw, (staticmethod, classmethod)):
        raw = raw.__func__
    if not callable(raw) or not hasattr(raw, "__qualname__") or not hasattr(raw, "__name__"):
        raise InvalidError(f"@app.function() decorates a function, not {raw!r}. Define one with def.")
    if partial is not None and (partial.hook or partial.method):
        corrected = definition(raw, *partial.decorators)
        raise InvalidError(
            f"@app.function() and @{partial.decorators[0]} are both on {raw.__qualname__!r}: what is in a class belongs to "
            f"@app.cls(). Write:\n\n    @app.cls()\n    class Service:\n        @{partial.decorators[0]}\n"
            f"        {corrected.keyword} {corrected.name}({corrected.arguments or 'self'}):\n            ..."
        )
    _check_global(raw)
    return (partial or Partial(raw)).take()


def _check_global(raw: Callable[..., Any]) -> None:
    name, qualname = raw.__name__, raw.__qualname__
    if "." not in qualname and "<" not in qualname:
        return
    corrected = definition(raw, "app.function()").ordered()
    if "<lambda>" in qualname:
        raise InvalidError(
            "@app.function() is on a lambda, which has no name. "
            "Write:\n\n    @app.function()\n    def f():\n        ..."
        )
    if "<locals>" in qualname:
        inside = qualname.rpartition(".<locals>")[0]
        raise InvalidError(
            f"Function {name!r} is defined inside {inside.rpartition('.')[2]!r}, and containers import functions from "
            f"the top level of a module. Move it there:\n\n{corrected.text()}"
        )
    if "." in qualname:
        parameters_ = list(inspect.signature(raw).parameters)
        without_self = corrected.arguments.partition(",")[2].strip() if parameters_[:1] in (["self"], ["cls"]) else None
        if without_self is not None:
            corrected = type(corrected)(**{**corrected.__dict__, "arguments": without_self})
        raise InvalidError(
            f"@app.function() is on the method {qualname!r}, and it decorates functions of a module. Put @app.cls() above the "
            f"class and @zygo.method() above the method, or write:\n\n{corrected.text()}"
        )
