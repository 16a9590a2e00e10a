"""The decorators below `@app.function()`: they mark a function, and `app.function` takes the mark.

Each must be called (`@zygo.fastapi_endpoint()`), stands below `@app.function()` and only takes keyword arguments; what
is written otherwise is refused with the user's own definition, corrected.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar, Union

from zygo.errors import InvalidError
from zygo.model import BatchPolicy, WebSpec
from zygo.sdk import domains, labels, parameters
from zygo.sdk.correction import definition
from zygo.sdk.unsupported import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

Target = Union[Callable[..., Any], "Partial"]
F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
_DOCS_PATHS = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
_PATH_PARAMETER = re.compile(r"\{([^{}:]*)(:[a-z]+)?\}")
_CONVERTERS = (None, ":str", ":int", ":float", ":path", ":uuid")


@dataclass(eq=False)
class Partial:
    """A function (or a class) that has one of our decorators and waits for `@app.function()` (or `@app.cls()`).

    `hook` is "snap", "enter" or "exit" for a method that containers run by themselves; `method` marks one to be called.
    """

    raw: Callable[..., Any]
    web: WebSpec | None = None
    concurrency: tuple[int, int] | None = None
    notices: list[str] = field(default_factory=list)
    decorators: tuple[str, ...] = ()
    hook: str = ""
    method: bool = False
    batch: BatchPolicy | None = None

    def __post_init__(self) -> None:
        self.__name__ = getattr(self.raw, "__name__", "f")
        _waiting[id(self)] = self

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        if self.hook or self.method or is_method(self.raw):
            raise InvalidError(
                f"{self.raw.__qualname__!r} has @{self.decorators[0]}, and its class has no @app.cls() above it."
            )
        corrected = definition(self.raw, *self.decorators)
        lines = ("app.function()", *corrected.decorators)
        raise InvalidError(
            f"{self.__name__!r} has @{self.decorators[0]} and no @app.function(), so it is no function of an app "
            f"yet. Write:\n\n{replace(corrected, decorators=lines).text()}"
        )

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Of an instance: its method, which can be called, and through `.remote()` too if its class is an app's."""
        if instance is None:
            return self
        registered = vars(type(instance)).get("__zygo_cls__")
        if registered is None or self.hook:
            return MethodType(self.raw, instance)
        return registered.method_of(instance, self.__name__)

    def take(self) -> Partial:
        """For `app.function` and `app.cls`: it is one of its functions now."""
        _waiting.pop(id(self), None)
        return self


_waiting: dict[int, Partial] = {}


def orphans() -> list[Partial]:
    """The functions that have a decorator of ours and never met `@app.function()`."""
    return list(_waiting.values())


def forget_orphans() -> None:
    """Start anew, for the next evaluation in this process."""
    _waiting.clear()


# -- the public decorators -------------------------------------------------------------------------------------------


def fastapi_endpoint(
    *positional: Any,
    method: str = "GET",
    path: str = "/",
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> Callable[[Target], Partial]:
    """Serve a function, sync or async, as a FastAPI handler under a URL of its own.

    Arguments:
        method: HTTP method.
        path: path of the route; `{name}` is the function's parameter of that name, typed by its annotation.
        label: replaces `<app>-<function>` in the hostname; a-z, 0-9 and dashes.
        docs: serve /docs, /redoc and /openapi.json.
        custom_domains: further names under which the deployed function answers; `*.example.com` for all right below.
        requires_proxy_auth: only callers with a proxy token get through (`zygo workspace proxy-tokens create`).

    Raises InvalidError for a use that cannot work, with the corrected code.
    """
    check_called("fastapi_endpoint", positional, "method")

    def decorate(target: Target) -> Partial:
        partial = start("fastapi_endpoint", target)
        owner = owner_of(partial.raw)
        _refuse_generator(partial.raw, "fastapi_endpoint")
        _check_path(partial.raw, path, docs=docs)
        web = _web("fastapi_endpoint", owner, label, custom_domains, requires_proxy_auth)
        partial.web = WebSpec(**{**web, "method": _method(owner, method), "path": path, "docs": bool(docs)})
        return partial

    return decorate


def web_endpoint(*positional: Any, **parameters_: Any) -> Callable[[Target], Partial]:
    """The old name of `fastapi_endpoint`; the same, with a warning."""
    check_called("web_endpoint", positional, "method")
    if not parameters_.pop("wait_for_response", True):
        raise refusal("wait_for_response=False", "Answer at once and go on in a FastAPI BackgroundTasks parameter.")
    unknown = set(parameters_) - {
        *("method", "path", "label", "custom_domains", "docs", "requires_proxy_auth"),
    }
    if unknown:
        raise InvalidError(f"@web_endpoint() has no parameter {sorted(unknown)[0]!r}.")
    decorate = fastapi_endpoint(**parameters_)

    def decorate_and_warn(target: Target) -> Partial:
        partial = decorate(target)
        partial.notices.append("@web_endpoint is an old name; write @fastapi_endpoint")
        return partial

    return decorate_and_warn


def asgi_app(
    *positional: Any,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Callable[[Target], Partial]:
    """Serve the ASGI application that a function without parameters returns. Arguments as for `fastapi_endpoint`.

    Raises InvalidError when the function is async, has parameters or is a generator, with the corrected code.
    """
    return _factory("asgi_app", positional, (label, custom_domains, requires_proxy_auth))


def wsgi_app(
    *positional: Any,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Callable[[Target], Partial]:
    """Serve the WSGI application (Flask, Django) that a function without parameters returns.

    One thread for each request that `@concurrent` allows. Arguments as for `fastapi_endpoint`; raises InvalidError as
    `asgi_app` does.
    """
    return _factory("wsgi_app", positional, (label, custom_domains, requires_proxy_auth))


def web_server(
    *positional: Any,
    port: int | None = None,
    startup_timeout: float = 5.0,
    health_path: str | None = None,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Callable[[Target], Partial]:
    """Serve whatever listens on `port`: a function without parameters starts a server, in any language, and returns.

    Arguments:
        port: 1 to 65535, may be given by position. Each container has its own ports.
        startup_timeout: seconds for the server to listen, on any address, and to be healthy.
        health_path: a path that must answer a GET with 2xx or 3xx before requests come; listening is enough without.
        label, custom_domains, requires_proxy_auth: as for `fastapi_endpoint`.

    Raises InvalidError for a use that cannot work, with the corrected code.
    """
    if len(positional) == 1 and port is None and not callable(positional[0]):
        port, positional = positional[0], ()
    check_called("web_server", positional, "port")

    def decorate(target: Target) -> Partial:
        partial = start("web_server", target)
        _check_factory(partial.raw, "web_server", f"web_server({_suggested_port(port)})")
        owner = owner_of(partial.raw)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise InvalidError(
                f"{owner}: port={port!r} is not a port (1 to 65535). Write @zygo.web_server({_suggested_port(port)}) "
                f"with the port on which its server listens."
            )
        web = _web("web_server", owner, label, custom_domains, requires_proxy_auth)
        seconds = parameters.check_seconds(owner, "startup_timeout", startup_timeout)
        health = parameters.check_health_path(owner, health_path)
        partial.web = WebSpec(**web, port=port, startup_timeout=seconds, health_path=health)
        return partial

    return decorate


def _suggested_port(port: Any) -> int:
    return port if isinstance(port, int) and 1 <= port <= 65535 and not isinstance(port, bool) else 8000


def _factory(
    kind: str, positional: tuple[Any, ...], said: tuple[str | None, Iterable[str] | None, bool]
) -> Callable[[Target], Partial]:
    check_called(kind, positional, "label")

    def decorate(target: Target) -> Partial:
        partial = start(kind, target)
        _check_factory(partial.raw, kind, f"{kind}()")
        partial.web = WebSpec(**_web(kind, owner_of(partial.raw), *said))
        return partial

    return decorate


def concurrent(
    *positional: Any, max_inputs: int | None = None, target_inputs: int | None = None
) -> Callable[[Target], Partial]:
    """Let one container serve several requests at once.

    Arguments:
        max_inputs: requests that one container serves at once, at most.
        target_inputs: the number for which containers are added; max_inputs unless given.

    Raises InvalidError when they do not fit together.
    """
    check_called("concurrent", positional, "max_inputs")

    def decorate(target: Target) -> Partial:
        partial = start("concurrent", target)
        owner = owner_of(partial.raw)
        above = "app.cls()" if isinstance(partial.raw, type) else "app.function()"
        if max_inputs is None:
            suggested = target_inputs or 100
            corrected = definition(partial.raw, above, "zygo.concurrent()").decorated_as(
                "concurrent", f"concurrent(max_inputs={suggested})"
            )
            raise InvalidError(f"{owner}: @concurrent() needs max_inputs=. Write:\n\n{corrected.text()}")
        partial.concurrency = parameters.check_concurrency(owner, max_inputs, target_inputs)
        return partial

    return decorate


def batched(
    *positional: Any, max_batch_size: int | None = None, wait_ms: int | None = None
) -> Callable[[Target], Partial]:
    """Run a function with lists: the inputs of several callers, collected in one container, one list per parameter.

    Arguments:
        max_batch_size: inputs in one list at most, 1 to 1000.
        wait_ms: milliseconds for which the first input waits for others, 0 to 600000.

    The function returns a list of the same length; each caller passes single values and gets the item that is theirs.
    Raises InvalidError for a use that cannot work.
    """
    if len(positional) == 2 and not callable(positional[0]):
        (max_batch_size, wait_ms), positional = positional, ()
    check_called("batched", positional, "max_batch_size")

    def decorate(target: Target) -> Partial:
        partial = start("batched", target)
        owner = owner_of(partial.raw)
        partial.batch = parameters.check_batch(owner, max_batch_size, wait_ms)
        raw = inspect.unwrap(partial.raw)
        if inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
            raise InvalidError(
                f"{owner} is a generator, and @batched functions return a list. Collect the items and return it."
            )
        for parameter in inspect.signature(partial.raw).parameters.values():
            if parameter.default is not parameter.empty:
                raise InvalidError(
                    f"{owner}: {parameter.name}={parameter.default!r} is a default value, and each parameter of a @batched "
                    f"function is a list with one item per caller. Write {parameter.name} without a default."
                )
        return partial

    return decorate


# -- checks ----------------------------------------------------------------------------------------------------------


_NEEDED = {"concurrent": "(max_inputs=100)", "web_server": "(8000)", "batched": "(max_batch_size=8, wait_ms=100)"}
"""Decorators that need arguments, with some that work."""


def check_called(name: str, positional: tuple[Any, ...], first: str) -> None:
    if not positional:
        return
    from zygo.sdk.function import Function

    target = positional[0]
    if isinstance(target, (Partial, Function)):
        target = target.raw
    if callable(target):
        _refuse_class(target, name)
        corrected = definition(target, "app.function()", f"zygo.{name}").ordered()
        corrected = corrected.decorated_as(name, name + _NEEDED.get(name, "()"))
        raise InvalidError(f"@{name} on {target.__name__!r} lacks its parentheses. Write:\n\n{corrected.text()}")
    raise InvalidError(f"@{name}({target!r}) only takes keyword arguments. Write @{name}({first}={target!r}).")


def start(name: str, target: Any) -> Partial:
    """The partial to fill in: a new one, or the one that another decorator of ours made. Raises InvalidError."""
    from zygo.sdk.cls import Cls
    from zygo.sdk.function import Function

    if isinstance(target, (Function, Cls)):
        above = "app.cls()" if isinstance(target, Cls) else "app.function()"
        corrected = definition(target.raw, f"zygo.{name}()", above).ordered()
        raise InvalidError(
            f"@{name}() stands above @{above} on {target.name!r}; it belongs below. Write:\n\n{corrected.text()}"
        )
    if isinstance(target, Partial):
        if name == "concurrent" and not isinstance(target.raw, type) and is_method(target.raw):
            raise InvalidError(concurrent_on_method(target.raw))
        other = target.decorators[-1] if target.decorators else ""
        if _clash(name, target):
            why = _TOGETHER.get(frozenset((name, _tail(other))), "keep one of them")
            raise InvalidError(f"{owner_of(target.raw)} has @{name}() and @{other} at once; {why}.")
        target.decorators = (f"zygo.{name}()", *target.decorators)
        return target
    if isinstance(target, (staticmethod, classmethod)):
        target = target.__func__
        raise InvalidError(
            f"@{name}() is on the static or class method {target.__qualname__!r}. Make it a method with self, or a function of "
            f"the module."
        )
    if name != "concurrent":
        _refuse_class(target, name)
    if not callable(target):
        raise InvalidError(f"@{name}() decorates a function, not {target!r}.")
    if isinstance(target, type) or name != "concurrent" or not is_method(target):
        return Partial(target, decorators=(f"zygo.{name}()",))
    raise InvalidError(concurrent_on_method(target))


_WEB = frozenset(("fastapi_endpoint", "asgi_app", "wsgi_app", "web_server"))
_TOGETHER = {
    frozenset(
        ("method", web)
    ): "a web function is called at its URL, a method with .remote(); give each a function of its own"
    for web in _WEB
}


def _tail(decorator: str) -> str:
    return decorator.partition("(")[0].rpartition(".")[2]


def _clash(name: str, target: Partial) -> bool:
    """Whether a function that is `target` already cannot be `name` too."""
    if name == "concurrent":
        return target.concurrency is not None or target.batch is not None or bool(target.hook)
    if name == "batched":
        return target.batch is not None or target.web is not None or bool(target.hook or target.concurrency)
    if name == "method":
        return target.method or target.web is not None or bool(target.hook)
    if name in _WEB:
        return target.web is not None or target.method or target.batch is not None or bool(target.hook)
    return True  # enter, exit: alone


def concurrent_on_method(func: Callable[..., Any]) -> str:
    """What to say of `@concurrent` on a method."""
    owner = func.__qualname__.rpartition(".")[0].rpartition(".")[2]
    return (
        f"@concurrent() is on the method {func.__qualname__!r}, and the methods of a class share their containers. Write:\n\n"
        f"    @app.cls()\n    @zygo.concurrent(max_inputs=100)\n    class {owner}:\n        ..."
    )


def _refuse_class(target: Any, name: str) -> None:
    if isinstance(target, type):
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.__name__).lower()
        raise InvalidError(
            f"@{name}() is on the class {target.__name__!r}, and it decorates functions. Write:\n\n"
            f"    @app.function()\n    @zygo.{name}{_NEEDED.get(name, '()')}\n"
            f"    def {snake}():\n        ..."
        )


def _refuse_generator(func: Callable[..., Any], name: str) -> None:
    raw = inspect.unwrap(func)
    if not (inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)):
        return
    corrected = definition(func, "app.function()", f"zygo.{name}()").ordered()
    keyword = "async def" if inspect.isasyncgenfunction(raw) else "def"
    body = f"{keyword} stream():\n    ...  # with yield\n\nreturn StreamingResponse(stream())"
    shown = replace(corrected, body=body, keyword="def", returns="")
    raise InvalidError(
        f"{owner_of(func)} is a generator, and a web endpoint returns one response. To stream, write:\n\n"
        f"    from fastapi.responses import StreamingResponse\n\n{shown.text()}"
    )


def _check_factory(func: Callable[..., Any], kind: str, written: str) -> None:
    raw = inspect.unwrap(func)
    own = is_method(func)
    returns = "starts a server" if kind == "web_server" else "returns the application"
    if inspect.iscoroutinefunction(raw):
        reason = f"is async, and what @{kind} decorates is called once, before there is an event loop"
    elif inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        reason = f"is a generator, and what @{kind} decorates {returns}"
    elif len(inspect.signature(func).parameters) > own:
        reason = f"has parameters, and what @{kind} decorates is called without any"
    else:
        return
    corrected = definition(func, *(() if own else ("app.function()",)), f"zygo.{written}").ordered()
    body = "subprocess.Popen([...])" if kind == "web_server" else "...\nreturn application"
    shown = replace(corrected, keyword="def", arguments="self" if own else "", returns="", body=body)
    raise InvalidError(f"{owner_of(func)} {reason}. Write:\n\n{shown.text()}")


def is_method(func: Callable[..., Any]) -> bool:
    """Whether it is defined in the body of a class."""
    scope = func.__qualname__.rpartition(".")[0]
    return bool(scope) and not scope.endswith("<locals>")


def _check_path(func: Callable[..., Any], path: Any, *, docs: bool) -> None:
    owner = owner_of(func)
    if not isinstance(path, str) or not path.startswith("/") or re.search(r"[\s?#]", path):
        suggested = "/" + re.sub(r"[\s?#].*", "", str(path)).lstrip("/")
        raise InvalidError(
            f"{owner}: path={path!r} is not a path: it starts with a slash and has no space, ? or #. "
            f"Use path={suggested!r}."
        )
    if re.search(r"[{}]", _PATH_PARAMETER.sub("", path)):
        raise InvalidError(f"{owner}: path={path!r} has a brace without its other half. Use path='/items/{{id}}'.")
    if docs and path in _DOCS_PATHS:
        raise InvalidError(f"{owner}: path={path!r} is taken by docs=True. Use another path.")
    signature = inspect.signature(func).parameters
    seen = set()
    for name, converter in ((m[1], m[2]) for m in _PATH_PARAMETER.finditer(path)):
        if not name.isidentifier() or (converter or None) not in _CONVERTERS:
            raise InvalidError(f"{owner}: path={path!r} holds {{{name}{converter or ''}}}. Use path='/items/{{id}}'.")
        if name in seen:
            raise InvalidError(f"{owner}: path={path!r} holds {{{name}}} twice. Give each its own name.")
        seen.add(name)
        if name not in signature:
            corrected = definition(func, "app.function()", f"zygo.fastapi_endpoint(path={path!r})")
            arguments = f"{name}: str" + (f", {corrected.arguments}" if corrected.arguments else "")
            shown = replace(corrected, arguments=arguments)
            raise InvalidError(
                f"{owner}: path={path!r} holds {{{name}}}, and the function has no such parameter. "
                f"Write:\n\n{shown.text()}"
            )


def _method(owner: str, method: Any) -> str:
    if isinstance(method, str) and method.upper() in METHODS:
        return method.upper()
    raise InvalidError(f"{owner}: method={method!r} is not one of {', '.join(METHODS)}. Use method='POST'.")


def _web(
    kind: str,
    owner: str,
    label: str | None,
    custom_domains: Iterable[str] | None,
    requires_proxy_auth: bool,
) -> dict[str, Any]:
    if not isinstance(requires_proxy_auth, bool):
        # A text such as "false" must not open what its author wants closed, or the other way round.
        raise InvalidError(f"{owner}: requires_proxy_auth={requires_proxy_auth!r} must be True or False.")
    names = domains.normalise_all(custom_domains, owner)
    if label is not None:
        labels.check(label, owner)
    return {
        "kind": kind,
        "label": label,
        "custom_domains": names,
        "requires_proxy_auth": requires_proxy_auth,
    }


def owner_of(func: Any) -> str:
    """The function or class in messages."""
    kind = "Class" if isinstance(func, type) else "Function"
    return f"{kind} {getattr(func, '__name__', 'f')!r}"
