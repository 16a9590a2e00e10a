"""The user's own definition, corrected, for error messages: their decorators, their name, their arguments.

Everything here is best effort and only runs once something is wrong: without the source it falls back to the plainest
form of the same thing.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from dataclasses import dataclass, replace
from typing import Any, Union

APP_DECORATORS = ("function", "cls", "local_entrypoint")
WEB_DECORATORS = ("fastapi_endpoint", "web_endpoint", "asgi_app", "wsgi_app", "web_server")
_OURS = (*APP_DECORATORS, *WEB_DECORATORS, "concurrent")
_Node = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef]


@dataclass(frozen=True)
class Definition:
    """A function or class as it stands in the source: its decorators' texts and its parts."""

    name: str
    decorators: tuple[str, ...] = ()
    arguments: str = ""
    returns: str = ""
    keyword: str = "def"
    body: str = "..."

    def text(self) -> str:
        """The definition as indented code."""
        lines = [f"@{decorator}" for decorator in self.decorators]
        lines += [f"{self.keyword} {self.name}({self.arguments}){self.returns}:", textwrap.indent(self.body, "    ")]
        return textwrap.indent("\n".join(lines), "    ")

    def called(self) -> Definition:
        """With parentheses on each of our decorators that lacks them."""
        return replace(
            self, decorators=tuple(d if "(" in d or tail(d) not in _OURS else f"{d}()" for d in self.decorators)
        )

    def ordered(self) -> Definition:
        """With app.function first, then concurrent, then the web decorator."""

        def rank(decorator: str) -> int:
            name = tail(decorator)
            return 0 if name in APP_DECORATORS else 1 if name == "concurrent" else 2 if name in WEB_DECORATORS else 3

        return replace(self.called(), decorators=tuple(sorted(self.called().decorators, key=rank)))

    def decorated_as(self, name: str, replacement: str) -> Definition:
        """With the decorator called `name` written as `replacement` (its arguments included)."""
        return replace(
            self,
            decorators=tuple(prefix(d) + replacement if tail(d) == name else d for d in self.called().decorators),
        )


def tail(decorator: str) -> str:
    """`fastapi_endpoint` of `modal.fastapi_endpoint(docs=True)`."""
    return decorator.partition("(")[0].rpartition(".")[2]


def prefix(decorator: str) -> str:
    """`modal.` of `modal.fastapi_endpoint(docs=True)`."""
    before, dot, _ = decorator.partition("(")[0].rpartition(".")
    return before + dot


def definition(obj: Any, *fallback: str) -> Definition:
    """The definition of a function or class; `fallback` are decorators to show when its source cannot be read."""
    node = _find(obj)
    if node is not None:
        found = _from_node(node)
        # Without any of ours in the source it was decorated by a call, `app.function()(f)`: show what that amounts to.
        decorated = any(tail(d) in _OURS for d in found.decorators)
        return found if decorated else replace(found, decorators=(*fallback, *found.decorators))
    name = getattr(obj, "__name__", "f")
    if isinstance(obj, type):
        return Definition(name, fallback, keyword="class")
    try:
        arguments = str(inspect.signature(obj))[1:].rpartition(")")[0]
    except (TypeError, ValueError):
        arguments = ""
    keyword = "async def" if inspect.iscoroutinefunction(obj) else "def"
    return Definition(name, fallback, arguments, keyword=keyword)


def _from_node(node: _Node) -> Definition:
    decorators = tuple(ast.unparse(d) for d in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        return Definition(node.name, decorators, ", ".join(ast.unparse(b) for b in node.bases), keyword="class")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return Definition(node.name, decorators, ast.unparse(node.args), returns, keyword)


def syntax_of(func: Any) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The syntax tree of a function, None when its source cannot be read."""
    node = _find(func)
    return None if isinstance(node, ast.ClassDef) else node


def _find(obj: Any) -> _Node | None:
    try:
        if isinstance(obj, type):
            filename, line = inspect.getsourcefile(obj), None
        else:
            code = inspect.unwrap(obj).__code__
            filename, line = code.co_filename, code.co_firstlineno
        if filename is None:
            return None
        linecache.checkcache(filename)
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (OSError, TypeError, AttributeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.ClassDef) != isinstance(obj, type) or node.name != obj.__name__:
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if line is None or line in (first, node.lineno):
            return node
    return None
