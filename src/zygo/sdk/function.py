"""Function: the handle that a decorated function becomes."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from zygo.errors import ExecutionError, InvalidError
from zygo.model import BatchPolicy, FunctionSpec, Resources, ScalePolicy, WebSpec
from zygo.sdk import context, variants
from zygo.sdk.function_call import FunctionCall
from zygo.sdk.methods import Method
from zygo.sdk.secret import add_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zygo.sdk.app import App
    from zygo.sdk.image import Image
    from zygo.sdk.parameters import Options
    from zygo.sdk.secret import Secret

__all__ = ["Function", "FunctionCall", "NamedFunction", "named"]


class Function:
    """A function of an app. Made by `@app.function()`; it holds no resources.

    `name` is its name in the app, `raw` the Python function, `web` how it answers HTTP (None: it has no URL).
    `.remote(...)` runs it in a container, `.local(...)` in this process; a web function is called at its URL.
    """

    variant: dict[str, Any] | None = None
    """What tells its pool from that of the function as it was decorated; see `variants`."""
    batch: BatchPolicy | None = None
    """For @batched: how its inputs are collected."""

    def __init__(self, app: App, name: str, raw: Callable[..., Any], web: WebSpec | None, options: Options) -> None:
        functools.update_wrapper(self, raw, updated=())
        self.app = app
        self.name = name
        self.raw = raw
        self.web = web
        self.options = options
        self.known: tuple[Any, float] | None = None
        self._served_in: str | None = None
        self._url: str | None = None

    def __repr__(self) -> str:
        return f"Function({self.name!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidError(
            f"Function {self.name!r} is not called directly. Use {self.name}.local(...) to run it in this process, or "
            f"{'its URL' if self.web else f'{self.name}.remote(...) to run it in a container'}."
        )

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function in this process, with this process's environment. Returns and raises what it does."""
        return self.raw(*args, **kwargs)

    def serve_in(self, app: str | None, url: str | None = None) -> None:
        """Say that the app which this process defines is served, with this name or id; None: not any more.

        `url` is that of a web function, where it is known.
        """
        self._served_in, self._url, self.known = app, url, None

    @property
    def app_name(self) -> str:
        """The name, or id, of the app in which the server has this function. Raises ExecutionError when it is not served."""
        if self._served_in is None:
            app = self.app.name or "NAME"
            raise ExecutionError(
                f"Function {self.name!r} is not served from this process. Start its app with `with app.run():` or "
                f"`zygo run FILE`, call the one of an app that is served or deployed with "
                f"zygo.Function.from_name({app!r}, {self.name!r}), or run it here with {self.name}.local(...)."
            )
        return self._served_in

    def check_call(self, method: str) -> None:
        """Raises InvalidError when this function is not one that is called by `method`."""
        from zygo.sdk import operations

        wanted = method == "remote_gen"
        operations.check(self, method, self.web is not None, self.get_web_url(), self.is_generator, wanted)

    def __reduce__(self) -> Any:
        return _unpickled, (self.app_name, self.name, self.variant)

    def get_raw_f(self) -> Callable[..., Any]:
        """The Python function that was decorated."""
        return self.raw

    def get_web_url(self) -> str | None:
        """The URL of a web function while it is served; None when it has none or this process does not know it."""
        return (self._url or context.web_url(self.name)) if self.web else None

    @property
    def web_url(self) -> str | None:
        """The older way to write `get_web_url()`."""
        return self.get_web_url()

    @property
    def is_generator(self) -> bool:
        """Whether the function yields its results."""
        raw = inspect.unwrap(self.raw)
        return inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)

    @property
    def policy(self) -> ScalePolicy:
        """How many containers it gets, and how many requests each of them at once."""
        return self.options.policy

    @property
    def resources(self) -> Resources:
        """What one of its containers may use."""
        return self.options.resources

    @property
    def image(self) -> Image:
        """Its own image, or its app's."""
        return self.options.image if self.options.image is not None else self.app.image

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The app's secrets and its own, in the order in which they apply."""
        return (*self.app.secrets, *self.options.secrets)

    @property
    def include_source(self) -> bool:
        """Whether the user's own modules go into its containers."""
        own = self.options.include_source
        return self.app.include_source if own is None else own

    def spec(self) -> FunctionSpec:
        """What this function is, as a record. Reads the files that its image and secrets name.

        Raises InvalidError when one of them is missing.
        """
        raw = inspect.unwrap(self.raw)
        env, secrets = add_up(self.secrets, self.options.env)
        code = getattr(raw, "__code__", None)
        return FunctionSpec(
            name=self.name,
            module=self.raw.__module__,
            qualname=self.raw.__qualname__,
            image=self.image.resolve().spec,
            web=self._web_with_sample(),
            env=env,
            policy=self.policy,
            resources=self.resources,
            timeout=self.options.timeout,
            startup_timeout=start_limit(self.options, [self.web]),
            block_network=self.options.block_network,
            is_async=inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw),
            line=code.co_firstlineno if code else 0,
            is_generator=self.is_generator and self.web is None,
            retries=self.options.retries,
            batch=self.batch,
            own_network=self.web is not None and self.web.kind == "web_server",
            secrets=secrets,
        )

    def _web_with_sample(self) -> WebSpec | None:
        if self.web is None:
            return None
        from zygo.sdk import sample

        return replace(self.web, sample=sample.of(self.raw, self.web))

    @staticmethod
    def from_name(app_name: str, name: str, *, environment_name: str | None = None, client: Any = None) -> Function:
        """The function `name` of the app that is served or deployed as `app_name`. Asks nobody before it is used.

        Arguments:
            environment_name: of the environment that the app is in; else this process's: that of ZYGO_ENVIRONMENT or of the
                profile, in a container its own.
            client: there for programs that give it; zygo finds its server by itself.

        Raises InvalidError for a name with a dot, which is a method's.
        """
        return named(variants.address(app_name, environment_name), name)

    lookup = from_name

    remote = Method("Run it in a container with these arguments. Returns its result, raises what it raised.")
    remote_gen = Method("Run a generator in a container and yield its items as they come.")
    map = Method("Run it once for each tuple of items of the iterables; yields the results.")
    starmap = Method("Run it once for each tuple of arguments of an iterable; yields the results.")
    for_each = Method("Like map, for what it does and not for its results.")
    spawn = Method("Have it run in a container, whatever happens meanwhile. Returns a FunctionCall at once.")
    spawn_map = Method("The same once for each tuple of items of the iterables, as one FunctionCall with many results.")
    update_autoscaler = Method("Change how many containers it gets, until the next deploy. Returns all settings.")
    get_current_stats = Method("How busy it is, as FunctionStats.")

    def with_options(self, *args: Any, **options: Any) -> Function:
        """The same function with other resources, secrets, limits, in containers of its own. Adds and replaces."""
        return self._with(variants.with_options(f"Function {self.name!r}", self.variant, args, options))

    def with_concurrency(self, *args: Any, **given: Any) -> Function:
        """The same function with max_inputs= (and target_inputs=) in each container."""
        return self._with(variants.with_concurrency(f"Function {self.name!r}", self.variant, args, given))

    def with_batching(self, *args: Any, **given: Any) -> Function:
        """The same function with batches of max_batch_size=, wait_ms=."""
        return self._with(variants.with_batching(f"Function {self.name!r}", self.variant, args, given))

    def _with(self, variant: dict[str, Any]) -> Function:
        made = variants.duplicate(self)
        made.variant, made.known = variant, None
        return made


class NamedFunction(Function):
    """A function that is known by its name: the server has it, this process does not."""

    def __init__(self, app_name: str, name: str) -> None:
        self.name = name
        self.known = None
        self._served_in = app_name
        self._url = None

    @property
    def app_name(self) -> str:
        return str(self._served_in)

    def __repr__(self) -> str:
        return f"Function.from_name({variants.shown_address(self.app_name)}, {self.name!r})"

    def __getattr__(self, attribute: str) -> Any:
        if attribute in ("app", "raw", "web", "options"):
            raise ExecutionError(
                f"{self!r} is only known by its name: its definition is not in this process, so it cannot be looked at or "
                f"run here. Use .remote(...)."
            )
        raise AttributeError(attribute)

    def check_call(self, method: str) -> None:
        """Whether it can be called so is known once the server was asked."""

    def hydrate(self) -> NamedFunction:
        """Ask the server now. Returns itself; raises NotFoundError, ConnectionError."""
        self._found()
        return self

    def get_web_url(self) -> str | None:
        """Its URL; None when it is not a web function. Asks the server."""
        url = self._found().web_url
        return None if url is None else str(url)

    @property
    def object_id(self) -> str:
        """Its id. Asks the server."""
        return str(self._found().id)

    def _found(self) -> Any:
        from zygo.sdk import background, operations

        return background.run(operations.find(self), f"{self!r}.hydrate()")


def start_limit(options: Options, webs: Sequence[WebSpec | None]) -> float | None:
    """Seconds for a container's start: at least what the servers that it starts are given."""
    longest = max((web.startup_timeout for web in webs if web is not None and web.kind == "web_server"), default=0.0)
    own = options.startup_timeout
    return own if longest < (own or options.timeout) else (own or options.timeout) + longest


def _unpickled(app_name: str, name: str, variant: dict[str, Any] | None) -> Function:
    function = NamedFunction(app_name, name)
    function.variant = variant
    return function


def named(app_name: str, name: str) -> Function:
    """`Function.from_name`, as it is found when a handle that was sent along is read."""
    if not isinstance(app_name, str) or not app_name or not isinstance(name, str) or not name:
        raise InvalidError(f"Function.from_name({app_name!r}, {name!r}) takes the app's name and the function's.")
    if "." in name:
        owner, _, method = name.partition(".")
        raise InvalidError(
            f"Function.from_name({app_name!r}, {name!r}): {name!r} is a method. "
            f"Use zygo.Cls.from_name({app_name!r}, {owner!r})().{method}"
        )
    return NamedFunction(app_name, name)
