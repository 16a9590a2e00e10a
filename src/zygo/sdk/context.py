"""Where this code runs: on the developer's machine, or in a container. The guest says so at the start of a zygote."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_remote = False
_container_id: str | None = None
_function: str | None = None
_functions: frozenset[str] | None = None
_urls: dict[str, str] = {}
_server_socket: str | None = None
_loading = False
_shown = False
_functions_shown = False
_call: ContextVar[tuple[str, str] | None] = ContextVar("zygo_call", default=None)


def set_remote(
    remote: bool,
    *,
    container_id: str | None = None,
    function: str | None = None,
    functions: Iterable[str] | None = None,
) -> None:
    """Say that this process is a zygote or a container (or, with False, that it is not).

    Arguments:
        container_id, function: of the container; the zygotes leave them out.
        functions: names of the functions that this process may serve. With them `Image.imports()` re-raises only what
            those functions' images should have; without them every failed import in a container is raised.
            None keeps what an earlier call said.
    """
    global _remote, _container_id, _function, _functions
    _remote = remote
    if not remote:
        _functions = None
        _urls.clear()
    _container_id = container_id
    _function = function
    if functions is not None:
        _functions = frozenset(functions)


def is_local() -> bool:
    """False in a container and in the zygotes it is forked from, True everywhere else."""
    return not _remote


def container_id() -> str | None:
    """The id of this container; None outside one."""
    return _container_id


def current_function() -> str | None:
    """The name of the function that this container serves; None outside one."""
    return _function


def served_functions() -> frozenset[str] | None:
    """The names given to `set_remote`, None when unknown."""
    return _functions


def set_server_socket(path: str) -> None:
    """Say where calls of functions go from this container."""
    global _server_socket
    _server_socket = path


def server_socket() -> str | None:
    """The socket for calls that the guest was told of; None outside of a container."""
    return _server_socket


def set_web_urls(urls: Mapping[str, str]) -> None:
    """Set the URL of each web function of the app by function name, for `Function.get_web_url()`."""
    _urls.clear()
    _urls.update(urls)


def web_url(function: str) -> str | None:
    """The URL of a web function as far as this process knows it."""
    return _urls.get(function)


def enter_call(call: str, identifier: str) -> Token[tuple[str, str] | None]:
    """Say that this thread or task serves the input `identifier` of `call`, until `leave_call` with the token."""
    return _call.set((call, identifier))


def leave_call(token: Token[tuple[str, str] | None]) -> None:
    """The input is served."""
    _call.reset(token)


def current_function_call_id() -> str | None:
    """The id of the call being served; None outside of one, as in a web function."""
    current = _call.get()
    return current[0] if current is not None else None


def current_input_id() -> str | None:
    """The id of the input being served; None outside of one, as in a web function."""
    current = _call.get()
    return current[1] if current is not None else None


def set_loading(loading: bool) -> None:
    """Say that a user's module is being executed only to see what its app is."""
    global _loading
    _loading = loading


def is_loading() -> bool:
    """Whether a user's module is being executed only to see what its app is."""
    return _loading


@contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Show what `app.run()` and `app.deploy()` do inside this context, and what the functions print.

    Arguments:
        show_progress: False shows what the functions print alone.
    """
    global _shown, _functions_shown
    before = _shown, _functions_shown
    _shown, _functions_shown = _shown or show_progress, True
    try:
        yield
    finally:
        _shown, _functions_shown = before


def show_functions() -> None:
    """Show what functions print, in this process, from now on."""
    global _functions_shown
    _functions_shown = True


def progress_shown() -> bool:
    """Whether what is done with apps is shown."""
    return _shown


def functions_shown() -> bool:
    """Whether what functions print is shown."""
    return _functions_shown
