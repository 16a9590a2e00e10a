"""Function: the handle that a decorated function becomes."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from zygo.errors import InvalidError
from zygo.model import FunctionSpec, Resources, ScalePolicy, WebSpec
from zygo.sdk import context
from zygo.sdk.unsupported import placeholder, refusal

if TYPE_CHECKING:
    from zygo.sdk.app import App
    from zygo.sdk.image import Image
    from zygo.sdk.parameters import Options
    from zygo.sdk.secret import Secret

FunctionCall = placeholder("FunctionCall")
"""Where programs import it from; see `unsupported`."""

_CALLS = ("remote", "remote_gen", "spawn", "map", "starmap", "for_each", "spawn_map", "call", "submit")


class _Later:
    """A method that a later release brings: refused when it, or its `.aio`, is called."""

    def __init__(self, name: str, function: Function | None = None) -> None:
        self._name = name
        self._function = function

    def __get__(self, instance: Function | None, owner: type | None = None) -> _Later:
        return _Later(self._name, instance)

    @property
    def aio(self) -> _Later:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        function = self._function
        if function is None:
            raise refusal(f"Function.{self._name}()", "Call the function's URL, or .local() in the same process.")
        if function.web is not None and self._name in _CALLS:
            url = function.get_web_url()
            where = f"Call its URL {url}" if url else "Call its URL (shown by `zygo serve`)"
            raise InvalidError(
                f"Function {function.name!r} is a web function, so .{self._name}() does not apply. "
                f"{where}, or {function.name}.local(...) to run it in this process."
            )
        instead = (
            f"Use {function.name}.local(...) to run it in this process, or give it a URL with @zygo.fastapi_endpoint()."
            if self._name in _CALLS
            else "Set it in @app.function(...)."
        )
        raise refusal(f"Function {function.name!r}: .{self._name}()", instead)


class Function:
    """A function of an app. Made by `@app.function()`; it holds no resources.

    `name` is its name in the app, `raw` the Python function, `web` how it answers HTTP (None: it has no URL).
    Call `.local(...)` to run it in this process, or its URL.
    """

    def __init__(self, app: App, name: str, raw: Callable[..., Any], web: WebSpec | None, options: Options) -> None:
        functools.update_wrapper(self, raw, updated=())
        self.app = app
        self.name = name
        self.raw = raw
        self.web = web
        self.options = options

    def __repr__(self) -> str:
        return f"Function({self.name!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidError(
            f"Function {self.name!r} is not called directly. Use {self.name}.local(...) to run it in this process"
            f"{', or its URL' if self.web else ''}."
        )

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function in this process, with this process's environment. Returns and raises what it does."""
        return self.raw(*args, **kwargs)

    def get_raw_f(self) -> Callable[..., Any]:
        """The Python function that was decorated."""
        return self.raw

    def get_web_url(self) -> str | None:
        """The URL of a web function while it is served; None when it has none or this process does not know it."""
        return context.web_url(self.name) if self.web else None

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
        env: dict[str, str] = {}
        for secret in self.secrets:
            env.update(secret.resolve().values)
        env.update(self.options.env)
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
            startup_timeout=self.options.startup_timeout,
            block_network=self.options.block_network,
            is_async=inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw),
            line=code.co_firstlineno if code else 0,
        )

    def _web_with_sample(self) -> WebSpec | None:
        if self.web is None:
            return None
        from zygo.sdk import sample

        return replace(self.web, sample=sample.of(self.raw, self.web))

    @classmethod
    def from_name(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        raise refusal("Function.from_name()", "Call the function's URL.")

    lookup = from_name

    remote = _Later("remote")
    remote_gen = _Later("remote_gen")
    spawn = _Later("spawn")
    map = _Later("map")
    starmap = _Later("starmap")
    for_each = _Later("for_each")
    spawn_map = _Later("spawn_map")
    call = _Later("call")
    submit = _Later("submit")
    update_autoscaler = _Later("update_autoscaler")
    keep_warm = _Later("keep_warm")
    get_current_stats = _Later("get_current_stats")
    with_options = _Later("with_options")
    with_concurrency = _Later("with_concurrency")
    with_batching = _Later("with_batching")
