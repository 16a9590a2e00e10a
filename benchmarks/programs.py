"""The programs that are served: the same FastAPI code for both sides.

Each `zygo` program imports or repeats the plain one, so that what differs is the platform and not the handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HELLO = """\
from fastapi import FastAPI

web = FastAPI()

@web.get("/")
{function}
    {body}
"""

SQUARE = "return {'square': x**2}"

IMAGE = 'image = zygo.Image.debian_slim().pip_install("fastapi[standard]")\n'

ENDPOINT = f"""\
import zygo
{{top}}
{IMAGE}app = zygo.App("{{name}}", image=image)

@app.function({{options}})
@zygo.fastapi_endpoint()
def square(x: int = 3):
{{body}}
"""

WHOLE_APP = f"""\
import zygo
{{top}}
{IMAGE}app = zygo.App("{{name}}", image=image)

@app.function({{options}})
{{concurrent}}@zygo.asgi_app()
def square():
    from plain import web
    return web
"""


CALLED = """\
import zygo
app = zygo.App("{name}")

@app.function()
def square(x):
    return x * x

@app.function()
def size(data):
    return len(data)
"""


def plain(folder: Path, *, asynchronous: bool = True, top: str = "", body: str = SQUARE) -> Path:
    """Write `plain.py`, the FastAPI application `web`, into `folder`; its path."""
    function = f"{'async ' if asynchronous else ''}def square(x: int = 3):"
    path = folder / "plain.py"
    path.write_text(f"{top}\n" * bool(top) + HELLO.format(function=function, body=body))
    return path


def endpoint(folder: Path, name: str, *, options: str = "", top: str = "", body: str = SQUARE) -> Path:
    """Write a program with one `fastapi_endpoint`; its path."""
    path = folder / f"{name}.py"
    path.write_text(ENDPOINT.format(name=name, options=options, top=top, body=f"    {body}"))
    return path


def whole_app(folder: Path, name: str, *, options: str = "", max_inputs: int = 1, target_inputs: int = 0) -> Path:
    """Write `plain.py` and a program that serves it with `asgi_app`; the program's path."""
    plain(folder)
    target = f", target_inputs={target_inputs}" if target_inputs else ""
    concurrent = f"@zygo.concurrent(max_inputs={max_inputs}{target})\n" if max_inputs > 1 else ""
    path = folder / f"{name}.py"
    path.write_text(WHOLE_APP.format(name=name, options=options, top="import plain", concurrent=concurrent))
    return path


def called(folder: Path, name: str) -> Path:
    """Write a program whose functions are called from Python; its path."""
    path = folder / f"{name}.py"
    path.write_text(CALLED.format(name=name))
    return path
