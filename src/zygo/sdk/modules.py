"""Which modules of the user's belong to an app: found by reading their source without executing it, and in sys.modules.

In script mode the script's directory is the root: `app.py` and every module or package beside it that it imports, also
inside functions and through each other. In module mode (`-m pkg.mod`) it is the whole top-level package.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import os
import posixpath
import sys
import sysconfig
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zygo.sdk.sources import REMOTE_ROOT, WATCH_JUNK, LocalSource, WatchRoot, local_source, walk, watch_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = frozenset({"zygo", "modal"})
_SECRETS = (".env",)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""Ours, which lies below the user's directory in a checkout of zygo."""


@dataclass
class Closure:
    """What reading the sources found.

    files: absolute path of each local module -> the name under which it is imported.
    packages: directories of local packages, which are shipped whole.
    absent: names that were imported and are not there; a file of that name may appear later.
    outside: per file, the modules from elsewhere that it imports when it is executed ("fastapi.responses").
    """

    root: str
    files: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    outside: dict[str, list[str]] = field(default_factory=dict)

    def sources(self) -> list[LocalSource]:
        """Every file to ship, at its place below /root."""
        found = {path: self._source(path) for path in self.files if os.path.isfile(path)}
        for package in self.packages:
            for path, _ in walk(package, lambda relative: relative.name in _SECRETS, prune=True):
                found[path] = self._source(path)
        return [found[path] for path in sorted(found)]

    def third_party(self, main: str = "") -> tuple[str, ...]:
        """The modules from elsewhere that the files which are imported now have at their top level, in order; also
        those that this machine lacks and the image has. `main` is imported, whatever its name in this process is."""
        live = [path for path, name in self.files.items() if name in sys.modules or path == main]
        return tuple(dict.fromkeys(module for path in live for module in self.outside.get(path, ())))

    def watch(self) -> list[WatchRoot]:
        """What to watch, so that changed, new and deleted modules are seen."""
        roots = [WatchRoot(package, None, True, WATCH_JUNK) for package in sorted(self.packages)]
        for path in self.files:
            if not any(path.startswith(package + os.sep) for package in self.packages):
                roots += watch_file(path)
        names = {name for absent in self.absent for name in (absent, f"{absent}.py")}
        if names:
            roots.append(WatchRoot(self.root, tuple(sorted(names))))
        return roots

    def _source(self, path: str) -> LocalSource:
        relative = os.path.relpath(path, self.root).replace(os.sep, "/")
        return local_source(path, posixpath.join(REMOTE_ROOT, relative))


def close(root: str, start: str, name: str) -> Closure:
    """Everything that the file `start`, imported as `name`, reaches below the directory `root`. Reads files only."""
    closure = Closure(root)
    _visit(closure, start, name)
    return closure


def add_loaded(closure: Closure, before: frozenset[str]) -> None:
    """Add the local modules that were imported in a way that reading does not show (importlib.import_module)."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name in before or name.partition(".")[0] in _OURS or not path or not str(path).endswith(".py"):
            continue
        path = os.path.abspath(path)
        if path not in closure.files and is_local(closure.root, path):
            _visit(closure, path, name)


def is_local(root: str, path: str) -> bool:
    """Whether a module's file (absolute) is the user's own: below `root`, and not a library that lies there too."""
    base = root.rstrip(os.sep) + os.sep
    if not path.startswith(base):
        return False
    parts = path[len(base) :].split(os.sep)
    if any(part in ("site-packages", "dist-packages", "__pycache__", ".git") for part in parts):
        return False
    if path.startswith(_PACKAGE) or any(path.startswith(x) and not base.startswith(x) for x in _libraries()):
        return False
    folders = (os.path.join(root, *parts[:i]) for i in range(1, len(parts)))
    return not any(os.path.exists(os.path.join(folder, "pyvenv.cfg")) for folder in folders)


@functools.lru_cache(maxsize=1)
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[key] + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_stdlib(name: str) -> bool:
    """Whether a top-level module comes with Python."""
    names: frozenset[str] | None = getattr(sys, "stdlib_module_names", None)  # Python 3.10
    if names is not None:
        return name in names
    stdlib = sysconfig.get_paths()["stdlib"]
    return name in sys.builtin_module_names or any(
        os.path.exists(os.path.join(stdlib, entry)) for entry in (name, f"{name}.py")
    )


def parse(path: str) -> ast.Module | None:
    """The syntax tree of a file, None when it cannot be read or parsed."""
    try:
        with open(path, "rb") as file:
            return ast.parse(file.read(), path)
    except (OSError, SyntaxError, ValueError):
        return None


def _visit(closure: Closure, path: str, name: str) -> None:
    if path in closure.files:
        return
    closure.files[path] = name
    package = _package_of(closure.root, path)
    if package is not None:
        closure.packages.add(package)
    tree = parse(path)
    if tree is None:
        return
    is_package = os.path.basename(path) == "__init__.py"
    for module, names, executed in _imports(tree, name, is_package):
        if _is_outside(closure, module, names) and executed:
            closure.outside.setdefault(path, []).append(module)


def _package_of(root: str, path: str) -> str | None:
    """The outermost regular package that holds the file, below the root."""
    found = None
    directory = os.path.dirname(path)
    while len(directory) > len(root):
        if os.path.isfile(os.path.join(directory, "__init__.py")):
            found = directory
        directory = os.path.dirname(directory)
    return found


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[tuple[str, list[str], bool]]:
    """Each import as (module, names taken from it, whether it is executed when the module is imported)."""
    waiting: list[tuple[ast.AST, bool]] = [(tree, True)]
    while waiting:
        node, executed = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], executed
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, name, is_package)
            if module:
                yield module, [alias.name for alias in node.names], executed
        elif not isinstance(node, ast.expr):  # imports are statements: expressions need not be looked into
            inside = executed and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            children = list(ast.iter_child_nodes(node))
            if _never_executed(node):
                body = set(map(id, node.body))  # type: ignore[attr-defined]
                waiting += [(child, inside and id(child) not in body) for child in reversed(children)]
            else:
                waiting += [(child, inside) for child in reversed(children)]


def _absolute(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    """The module that a `from` names, relative ones resolved; "" when it leads out of the package."""
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    keep = len(parts) - node.level + (1 if is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])]) if keep > 0 else ""


def _never_executed(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
        return True
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def _is_outside(closure: Closure, module: str, names: list[str]) -> bool:
    """Visit the local files that an import leads to; true when it leads elsewhere and not to Python's own."""
    found = _follow(closure, module)
    for name in names:
        # `from helpers import tools` may name a module as well as an attribute.
        if found and name != "*":
            _follow(closure, f"{module}.{name}")
    top = module.partition(".")[0]
    if found or top in _OURS or is_stdlib(top):
        return False
    closure.absent.add(top)
    return True


def _follow(closure: Closure, module: str) -> bool:
    """Visit the local files on the way to `module`. False when its top level is not local."""
    directory = closure.root
    parts = module.split(".")
    for i, part in enumerate(parts):
        name = ".".join(parts[: i + 1])
        package = os.path.join(directory, part)
        for candidate in (os.path.join(package, "__init__.py"), package + ".py"):
            if os.path.isfile(candidate) and is_local(closure.root, candidate):
                _visit(closure, candidate, name)
                break
        else:
            if not os.path.isdir(package) or not (i + 1 < len(parts) or _holds_python(package)):
                return i > 0
            if i == 0 and _is_elsewhere(closure.root, part):
                return False
        directory = package
    return True


def _is_elsewhere(root: str, name: str) -> bool:
    """Whether a real module of that name is on the path: it comes before a folder without __init__.py."""
    path = [entry for entry in sys.path if os.path.abspath(entry or ".") != root]
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    return spec is not None and spec.origin is not None


def _holds_python(directory: str) -> bool:
    try:
        return any(entry.endswith(".py") for entry in os.listdir(directory))
    except OSError:
        return False
