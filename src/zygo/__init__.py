"""zygo turns Python functions into web endpoints on machines you own.

import zygo

app = zygo.App("hello", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))

@app.function()
@zygo.fastapi_endpoint()
def square(x: int):
    return {"square": x**2}

The names below are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zygo import errors as exception
    from zygo.errors import Error
    from zygo.sdk.app import App
    from zygo.sdk.cls import Cls
    from zygo.sdk.context import current_function_call_id, current_input_id, is_local
    from zygo.sdk.function import Function
    from zygo.sdk.function_call import FunctionCall
    from zygo.sdk.image import Image
    from zygo.sdk.lifecycle import enter, exit, method, parameter
    from zygo.sdk.partial import asgi_app, batched, concurrent, fastapi_endpoint, web_endpoint, web_server, wsgi_app
    from zygo.sdk.patterns import FilePatternMatcher
    from zygo.sdk.retries import Retries
    from zygo.sdk.secret import Secret

    __version__: str

__all__ = [
    "App",
    "Cls",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Retries",
    "Secret",
    "asgi_app",
    "batched",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enter",
    "exception",
    "exit",
    "fastapi_endpoint",
    "is_local",
    "method",
    "parameter",
    "web_endpoint",
    "web_server",
    "wsgi_app",
]

_HOMES = {
    "App": "app",
    "Cls": "cls",
    "FilePatternMatcher": "patterns",
    "Function": "function",
    "FunctionCall": "function_call",
    "Image": "image",
    "Retries": "retries",
    "Secret": "secret",
    "asgi_app": "partial",
    "batched": "partial",
    "concurrent": "partial",
    "current_function_call_id": "context",
    "current_input_id": "context",
    "enable_output": "context",
    "enter": "lifecycle",
    "exit": "lifecycle",
    "fastapi_endpoint": "partial",
    "is_local": "context",
    "method": "lifecycle",
    "parameter": "lifecycle",
    "web_endpoint": "partial",
    "web_server": "partial",
    "wsgi_app": "partial",
}


def __getattr__(name: str) -> Any:
    value: Any
    if name in _HOMES:
        value = getattr(importlib.import_module(f"zygo.sdk.{_HOMES[name]}"), name)
    elif name in ("Error", "exception"):
        errors = importlib.import_module("zygo.errors")
        value = errors.Error if name == "Error" else errors
    elif name == "__version__":
        from zygo.version import version

        value = version()
    elif name == "Stub":
        raise AttributeError("zygo.Stub does not exist: it is called App. Write zygo.App('name').")
    elif name.startswith("_"):
        raise AttributeError(name)
    else:
        value = _unsupported(name)
    globals()[name] = value
    return value


def _unsupported(name: str) -> Any:
    """What stands for a name of Modal's that zygo does not have yet."""
    from zygo.sdk import unsupported

    if name in unsupported.NAMES:
        return unsupported.placeholder(name)
    raise AttributeError(f"module 'zygo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
