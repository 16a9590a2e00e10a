"""The decorators below `@app.function()`: they mark a function, and `app.function` takes the mark.

Each must be called (`@zygo.fastapi_endpoint()`), stands below `@app.function()` and only takes keyword arguments; what
is written otherwise is refused with the user's own definition, corrected.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, NoReturn, TypeVar, Union

from zygo.errors import InvalidError
from zygo.model import WebSpec
from zygo.sdk import domains, labels, parameters
from zygo.sdk.correction import definition
from zygo.sdk.unsupported import DECORATORS, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

Target = Union[Callable[..., Any], "Partial"]
F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
_DOCS_PATHS = ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
_PATH_PARAMETER = re.compile(r"\{([^{}:]*)(:[a-z]+)?\}")
_CONVERTERS = (None, ":str", ":int", ":float", ":path", ":uuid")


@dataclass
class Partial:
    """A function that has one of our decorators and waits for `@app.function()`."""

    raw: Callable[..., Any]
    web: WebSpec | None = None
    concurrency: tuple[int, int] | None = None
    notices: list[str] = field(default_factory=list)
    decorators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.__name__ = getattr(self.raw, "__name__", "f")
        _waiting[id(self)] = self

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        corrected = definition(self.raw, *self.decorators)
        lines = ("app.function()", *corrected.decorators)
        raise InvalidError(
            f"{self.__name__!r} has @{self.decorators[0]} and no @app.function(), so it is no function of an app "
            f"yet. Write:\n\n{replace(corrected, decorators=lines).text()}"
        )

    def take(self) -> Partial:
        """For `app.function`: it is one of its functions now."""
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
        requires_proxy_auth: not supported yet.

    Raises InvalidError for a use that cannot work, with the corrected code.
    """
    _check_called("fastapi_endpoint", positional, "method")

    def decorate(target: Target) -> Partial:
        partial = _start("fastapi_endpoint", target)
        owner = _owner(partial.raw)
        _refuse_generator(partial.raw, "fastapi_endpoint")
        _check_path(partial.raw, path, docs=docs)
        web = _web("fastapi_endpoint", owner, label, custom_domains, requires_proxy_auth, partial.notices)
        partial.web = WebSpec(**{**web, "method": _method(owner, method), "path": path, "docs": bool(docs)})
        return partial

    return decorate


def web_endpoint(*positional: Any, **parameters_: Any) -> Callable[[Target], Partial]:
    """The old name of `fastapi_endpoint`; the same, with a warning."""
    _check_called("web_endpoint", positional, "method")
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
    _check_called("asgi_app", positional, "label")

    def decorate(target: Target) -> Partial:
        partial = _start("asgi_app", target)
        _check_factory(partial.raw)
        owner = _owner(partial.raw)
        web = _web("asgi_app", owner, label, custom_domains, requires_proxy_auth, partial.notices)
        partial.web = WebSpec(**web)
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
    _check_called("concurrent", positional, "max_inputs")

    def decorate(target: Target) -> Partial:
        partial = _start("concurrent", target)
        owner = _owner(partial.raw)
        if max_inputs is None:
            suggested = target_inputs or 100
            corrected = definition(partial.raw, "app.function()", "zygo.concurrent()").decorated_as(
                "concurrent", f"concurrent(max_inputs={suggested})"
            )
            raise InvalidError(f"{owner}: @concurrent() needs max_inputs=. Write:\n\n{corrected.text()}")
        partial.concurrency = parameters.check_concurrency(owner, max_inputs, target_inputs)
        return partial

    return decorate


def refused(name: str) -> Callable[..., Any]:
    """A decorator that a later release brings: calling it raises UnsupportedError."""

    def decorator(*args: Any, **kwargs: Any) -> NoReturn:
        raise refusal(f"@zygo.{name}", DECORATORS[name])

    decorator.__name__ = decorator.__qualname__ = name
    decorator.__doc__ = f"Not supported yet. {DECORATORS[name]}"
    return decorator


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_called(name: str, positional: tuple[Any, ...], first: str) -> None:
    if not positional:
        return
    from zygo.sdk.function import Function

    target = positional[0]
    if isinstance(target, (Partial, Function)):
        target = target.raw
    if callable(target):
        _refuse_class(target, name)
        corrected = definition(target, "app.function()", f"zygo.{name}").ordered()
        if name == "concurrent":
            corrected = corrected.decorated_as("concurrent", "concurrent(max_inputs=100)")
        raise InvalidError(f"@{name} on {target.__name__!r} lacks its parentheses. Write:\n\n{corrected.text()}")
    raise InvalidError(f"@{name}({target!r}) only takes keyword arguments. Write @{name}({first}={target!r}).")


def _start(name: str, target: Any) -> Partial:
    """The partial to fill in: a new one, or the one that another decorator of ours made."""
    from zygo.sdk.function import Function

    if isinstance(target, Function):
        corrected = definition(target.raw, f"zygo.{name}()", "app.function()").ordered()
        raise InvalidError(
            f"@{name}() stands above @app.function() on {target.name!r}; it belongs below. Write:\n\n{corrected.text()}"
        )
    if isinstance(target, Partial):
        if (name == "concurrent" and target.concurrency) or (name != "concurrent" and target.web):
            raise InvalidError(
                f"{_owner(target.raw)} has @{name}() and @{target.decorators[-1]} at once; keep one of them."
            )
        target.decorators = (f"zygo.{name}()", *target.decorators)
        return target
    if isinstance(target, (staticmethod, classmethod)):
        target = target.__func__
        raise InvalidError(f"@{name}() is on the method {target.__qualname__!r}. Make it a function of the module.")
    _refuse_class(target, name)
    if not callable(target):
        raise InvalidError(f"@{name}() decorates a function, not {target!r}.")
    return Partial(target, decorators=(f"zygo.{name}()",))


def _refuse_class(target: Any, name: str) -> None:
    if isinstance(target, type):
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.__name__).lower()
        raise InvalidError(
            f"@{name}() is on the class {target.__name__!r}, and it decorates functions. Write:\n\n"
            f"    @app.function()\n    @zygo.{name}({'max_inputs=100' if name == 'concurrent' else ''})\n"
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
        f"{_owner(func)} is a generator, and a web endpoint returns one response. To stream, write:\n\n"
        f"    from fastapi.responses import StreamingResponse\n\n{shown.text()}"
    )


def _check_factory(func: Callable[..., Any]) -> None:
    raw = inspect.unwrap(func)
    if inspect.iscoroutinefunction(raw):
        reason = "is async, and what @asgi_app() decorates is called once, before there is an event loop"
    elif inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        reason = "is a generator, and what @asgi_app() decorates returns the application"
    elif inspect.signature(func).parameters:
        reason = "has parameters, and what @asgi_app() decorates is called without any"
    else:
        return
    corrected = definition(func, "app.function()", "zygo.asgi_app()").ordered()
    shown = replace(corrected, keyword="def", arguments="", returns="", body="...\nreturn application")
    raise InvalidError(f"{_owner(func)} {reason}. Write:\n\n{shown.text()}")


def _check_path(func: Callable[..., Any], path: Any, *, docs: bool) -> None:
    owner = _owner(func)
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
    notices: list[str],
) -> dict[str, Any]:
    if requires_proxy_auth:
        # Accepting it without checking tokens would publish what its author wants closed.
        raise refusal(
            f"{owner}: requires_proxy_auth=True", "Check a header in the function, or let a proxy in front of it do so."
        )
    names = domains.normalise_all(custom_domains, owner)
    if label is not None:
        labels.check(label, owner)
    return {"kind": kind, "label": label, "custom_domains": names}


def _owner(func: Any) -> str:
    return f"Function {getattr(func, '__name__', 'f')!r}"
