"""Cls, what `@app.cls()` makes of a class, and Obj, what calling it gives: a set of parameters whose methods are functions.

model = Model(name="small")          # an Obj: nothing runs yet
model.predict.remote("x")            # in a container of Model's for name="small"
model.predict.local("x")             # here: enter methods run once, then the method
"""

from __future__ import annotations

import base64
import functools
import inspect
import threading
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import InvalidError
from zygo.sdk import context, lifecycle, payload, variants
from zygo.sdk.function import Function, NamedFunction, start_limit

if TYPE_CHECKING:
    from zygo.model import FunctionSpec, ParameterSpec, WebSpec
    from zygo.sdk.app import App
    from zygo.sdk.lifecycle import ClassDefinition
    from zygo.sdk.parameters import Options
    from zygo.sdk.partial import Partial


class Cls:
    """A class of an app. Calling it, with its parameters, gives an Obj. It holds no resources."""

    def __init__(
        self, app: App, name: str, raw: type, definition: ClassDefinition, options: Options, variant: Any = None
    ) -> None:
        self.app = app
        self.name = name
        self.raw = raw
        self.definition = definition
        self.options = options
        self.service = Service(app, name, raw, definition, options)
        self.variant: dict[str, Any] | None = variant
        self.__name__, self.__qualname__, self.__module__ = raw.__name__, raw.__qualname__, raw.__module__
        self.__doc__ = raw.__doc__
        self.__wrapped__ = raw

    def __repr__(self) -> str:
        return f"Cls({self.name!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> Obj:
        return Obj(self, _constructor(self, args, kwargs), args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("raw", "definition"):
            raise AttributeError(name)
        if name in self.definition.methods:
            raise InvalidError(
                f"{self.name}.{name} belongs to an object. Write {self.name}().{name}, with its parameters in the brackets."
            )
        return getattr(self.raw, name)

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (self.raw,)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.raw)

    def __reduce__(self) -> Any:
        return _named_cls, (self.service.app_name, self.name, self.variant)

    def functions(self) -> list[MethodFunction]:
        """Its methods, as functions of the app."""
        return [MethodFunction(self, partial, None, None) for partial in self.definition.methods.values()]

    def method_of(self, instance: Any, name: str) -> MethodFunction:
        """The method of an instance of the class itself, as its other methods see it."""
        obj = vars(instance).get("__zygo_obj__")
        variant = obj.variant if obj is not None else self.variant
        return MethodFunction(self, self.definition.methods[name], variant, _Here(instance))

    def specs(self) -> list[FunctionSpec]:
        """The records of the class and of its methods."""
        own = self.service.spec()
        return [own, *(function.method_spec(own) for function in self.functions())]

    def with_options(self, *args: Any, **options: Any) -> Cls:
        """The same class with other resources, secrets, limits, in containers of its own. Adds and replaces; see the manual."""
        return self._with(variants.with_options(f"Class {self.name!r}", self.variant, args, options))

    def with_concurrency(self, *args: Any, **given: Any) -> Cls:
        """The same class with max_inputs= (and target_inputs=) in each container."""
        return self._with(variants.with_concurrency(f"Class {self.name!r}", self.variant, args, given))

    def with_batching(self, *args: Any, **given: Any) -> Cls:
        """The same class with batches of max_batch_size=, wait_ms=."""
        if isinstance(self.raw, type) and not any(p.batch for p in self.definition.methods.values()):
            raise InvalidError(f"Class {self.name!r} has no @batched method, so with_batching() does not apply.")
        return self._with(variants.with_batching(f"Class {self.name!r}", self.variant, args, given))

    def _with(self, variant: dict[str, Any]) -> Cls:
        made = variants.duplicate(self)
        made.variant = variant
        return made

    @staticmethod
    def from_name(
        app_name: str, name: str, *, version: Any = None, environment_name: str | None = None, client: Any = None
    ) -> Cls:
        """The class `name` of the app that is served or deployed as `app_name`. Asks nobody before it is used.

        Arguments:
            environment_name: as for Function.from_name.
            client: there for programs that give it.

        Raises InvalidError for version=.
        """
        if version is not None:
            raise InvalidError("Cls.from_name(version=) is not there; the active revision is meant.")
        if not isinstance(app_name, str) or not app_name or not isinstance(name, str) or not name or "." in name:
            raise InvalidError(f"Cls.from_name({app_name!r}, {name!r}) takes the app's name and the class's.")
        return _named_cls(variants.address(app_name, environment_name), name, None)

    lookup = from_name


class _NamedCls(Cls):
    """A class that is known by its name: the server has it, this process does not."""

    def __init__(self, app_name: str, name: str, variant: dict[str, Any] | None) -> None:
        self.name = name
        self.variant = variant
        self.service = NamedFunction(app_name, name)  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Cls.from_name({variants.shown_address(self.service.app_name)}, {self.name!r})"

    def __getattr__(self, name: str) -> Any:
        if name == "raw":
            return None
        raise AttributeError(f"{self!r} is only known by its name, and has no attribute {name!r} before it is called")

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        raise InvalidError(f"{self!r} is only known by its name: no class can be derived from it here.")


def _named_cls(app_name: str, name: str, variant: dict[str, Any] | None) -> Cls:
    return _NamedCls(app_name, name, variant)


class Service(Function):
    """The class as a function record: it has the image, the options and the containers that its methods share."""

    def __init__(self, app: App, name: str, raw: type, definition: ClassDefinition, options: Options) -> None:
        super().__init__(app, name, raw, None, options)
        self.definition = definition
        self.urls: dict[str, str] = {}
        """Of its web methods, where this process knows them."""

    def spec(self) -> FunctionSpec:
        webs = [p.web for p in self.definition.methods.values()]
        batches = [p.batch for p in self.definition.methods.values() if p.batch]
        return replace(
            super().spec(),
            is_class=True,
            parameters=self.definition.parameters,
            needs_values=needs_values(self.definition, self.raw),
            lasting_exit=bool(self.definition.exits),
            batch=batches[0] if batches else None,
            startup_timeout=start_limit(self.options, webs),
            own_network=any(web is not None and web.kind == "web_server" for web in webs),
        )


def needs_values(definition: ClassDefinition, raw: Any) -> bool:
    """Whether an instance cannot be made without parameters, or arguments for __init__."""
    if not definition.has_init:
        return any(parameter.required for parameter in definition.parameters)
    try:
        inspect.signature(raw.__init__).bind(None)
    except TypeError:
        return True
    return False


class MethodFunction(Function):
    """A method of a class as a function. `here` is what runs it in this process."""

    def __init__(self, cls: Cls, partial: Partial, variant: dict[str, Any] | None, here: _Here | None) -> None:
        functools.update_wrapper(self, partial.raw, updated=())
        self.app, self.options = cls.app, cls.options
        self.name = f"{cls.name}.{partial.__name__}"
        self.raw = partial.raw
        self.web = partial.web
        self.batch = partial.batch
        self.known = None
        self.variant = variant or None
        self.definition = cls.definition
        self._service = cls.service
        self._here = here

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Inside the class's own code an instance's method may simply be called, as in any class.
        if self._here is None or not self._here.inside:
            variants.refuse_call(f"Method {self.name!r}", "it")
        return self._here.bound(self.raw)(*args, **kwargs)

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in this process; the first one of an object runs its enter methods before."""
        if self._here is None:
            raise InvalidError(f"{self.name} belongs to an object. Write {self.name.replace('.', '().')}.local(...).")
        return self._here.run(self.raw, args, kwargs)

    @property
    def app_name(self) -> str:
        return self._service.app_name

    def get_web_url(self) -> str | None:
        """Its URL, with the object's parameters in its query; None when it is not a web function or not served."""
        url = (self._service.urls.get(self.name) or context.web_url(self.name)) if self.web else None
        values = (self.variant or {}).get("parameters") or {}
        if url is None or not values:
            return url
        from urllib.parse import urlencode

        return f"{url}?{urlencode({name: _query_text(value) for name, value in values.items()})}"

    def _web_with_sample(self) -> WebSpec | None:
        if self.web is None:
            return None
        from zygo.sdk import sample

        parameters = self.definition.parameters
        return replace(self.web, sample=sample.of(MethodType(self.raw, object()), self.web, parameters))

    def method_spec(self, own: FunctionSpec) -> FunctionSpec:
        """Its record, beside that of its class."""
        raw = inspect.unwrap(self.raw)
        return replace(
            own,
            name=self.name,
            qualname=self.raw.__qualname__,
            web=self._web_with_sample(),
            is_async=inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw),
            line=raw.__code__.co_firstlineno if hasattr(raw, "__code__") else 0,
            is_generator=self.is_generator and self.web is None,
            owner=own.name,
            is_class=False,
            parameters=(),
            env={},
            retries=None if self.web is not None or self.is_generator else own.retries,
        )

    def spec(self) -> FunctionSpec:
        return self.method_spec(self._service.spec())

    def __reduce__(self) -> Any:
        return _named_method, (self.app_name, self.name, self.variant)


def _query_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named_method(app_name: str, name: str, variant: dict[str, Any] | None) -> Function:
    function = NamedFunction(app_name, name)
    function.variant = variant
    return function


class Obj:
    """A class with its parameters: its methods are functions, with containers for these values alone.

    Made by calling a Cls. Attributes that are no methods are those of an instance in this process, whose enter methods have
    run.
    """

    def __init__(self, cls: Cls, variant: dict[str, Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self.variant = variant
        self._here = _Here(None, lambda: instantiate(cls, self, args, kwargs)) if cls.raw is not None else None

    def __repr__(self) -> str:
        return f"{self._cls!r}({(self.variant or {}).get('parameters') or ''})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        cls = self._cls
        if self._here is None:
            return _named_method(cls.service.app_name, f"{cls.name}.{name}", self.variant)
        if name in cls.definition.methods:
            return MethodFunction(cls, cls.definition.methods[name], self.variant, self._here)
        return getattr(self._here.instance(), name)

    def update_autoscaler(self, **settings: Any) -> Any:
        """Change how many containers these parameters get, until the next deploy. Returns all settings."""
        return self._service().update_autoscaler(**settings)

    def keep_warm(self, containers: int) -> None:
        """The old way to write `update_autoscaler(min_containers=...)`."""
        self.update_autoscaler(min_containers=containers)

    def _service(self) -> Function:
        service = variants.duplicate(self._cls.service)
        service.variant, service.known = self.variant, None
        return service

    def __reduce__(self) -> Any:
        return _named_obj, (self._cls.service.app_name, self._cls.name, self.variant)


def _named_obj(app_name: str, name: str, variant: dict[str, Any] | None) -> Obj:
    return Obj(_named_cls(app_name, name, None), variant, (), {})


def _constructor(cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The variant for what the class was called with. Raises InvalidError."""
    owner = f"Class {cls.name!r}"
    variant = dict(cls.variant or {})
    if isinstance(cls, _NamedCls):
        if args:
            raise InvalidError(f"{owner}: give its parameters by name, such as {cls.name}(name='x').")
        values = {name: _untyped(owner, name, value) for name, value in kwargs.items()}
        if values:
            variant["parameters"] = values
        return variant or None
    known = {p.name: p for p in cls.definition.parameters if p.init}
    if not cls.definition.has_init:
        if args or set(kwargs) - set(known):
            what = (
                f"no parameter {sorted(set(kwargs) - set(known))[0]!r}" if not args else "its parameters by name only"
            )
            names = ", ".join(f"{p.name}: {p.type}" for p in known.values()) or "none"
            raise InvalidError(f"{owner} takes {what}. It has: {names}.")
        _check_required(owner, cls.name, known, kwargs)
        values = {n: lifecycle.encode_value(owner, n, known[n].type, value) for n, value in kwargs.items()}
        if values:
            variant["parameters"] = values
        return variant or None
    inspect.signature(cls.raw.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
    if args or kwargs:
        data = payload.dumps((args, kwargs), f"The arguments of {cls.name}'s constructor")
        variant["init"] = base64.b64encode(data).decode()
    return variant or None


def _check_required(owner: str, name: str, known: dict[str, ParameterSpec], given: dict[str, Any]) -> None:
    missing = [p for p in known.values() if p.required and p.name not in given]
    if missing:
        shown = ", ".join(f"{p.name}=..." for p in missing)
        raise InvalidError(f"{owner} needs a value for {', '.join(p.name for p in missing)}. Write {name}({shown}).")


def _untyped(owner: str, name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if not isinstance(value, (str, int, bool)):
        raise InvalidError(
            f"{owner}: {name}={value!r} is of type {type(value).__name__}; parameters are str, int, bool or bytes."
        )
    return value


# -- instances -------------------------------------------------------------------------------------------------------


def instantiate(cls: Cls, obj: Obj | None, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
    """A new instance of the user's class, before any enter method. Raises what its __init__ raises."""
    instance = blank(cls)
    initialise(cls, instance, obj, args, kwargs or {})
    return instance


def blank(cls: Cls) -> Any:
    """An instance before its parameters or its __init__."""
    make: Any = cls.raw
    return make.__new__(make)


def initialise(cls: Cls, instance: Any, obj: Obj | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Set its parameters, or run its __init__."""
    if obj is not None:
        vars(instance)["__zygo_obj__"] = obj
    if cls.definition.has_init:
        cls.raw.__init__(instance, *args, **kwargs)  # type: ignore[misc]
        return
    for spec in cls.definition.parameters:
        if spec.name in kwargs:
            value = kwargs[spec.name]
        elif not spec.required:
            value = lifecycle.decode_value(spec.type, spec.default)
        else:
            continue
        setattr(instance, spec.name, value)


class _Here:
    """One instance in this process: made, and entered, when it is first used."""

    def __init__(self, instance: Any, make: Callable[[], Any] | None = None) -> None:
        self._instance = instance
        self._make = make
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], Any]] = []
        self.inside = make is None

    def bound(self, raw: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(raw, self._instance)

    def run(self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a method of it; for an async one, a coroutine that does."""
        unwrapped = inspect.unwrap(raw)
        if inspect.iscoroutinefunction(unwrapped):
            return self._run_async(raw, args, kwargs)
        return raw(self.instance(), *args, **kwargs)

    async def _run_async(self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._lock:
            self._create()
            waiting, self._waiting = self._waiting, []
        for hook in waiting:
            made = hook()
            if inspect.isawaitable(made):
                await made
        return await raw(self._instance, *args, **kwargs)

    def instance(self) -> Any:
        """The instance, entered."""
        with self._lock:
            self._create()
            waiting, self._waiting = self._waiting, []
            for hook in waiting:
                made = hook()
                if inspect.isawaitable(made):
                    import asyncio

                    asyncio.run(_wait_for(made))
        return self._instance

    def _create(self) -> None:
        if self._make is None:
            return
        make, self._make = self._make, None
        self._instance = make()
        definition = self._instance.__zygo_cls__.definition
        self._waiting = [functools.partial(p.raw, self._instance) for p in (*definition.snaps, *definition.enters)]


async def _wait_for(made: Any) -> Any:
    return await made
