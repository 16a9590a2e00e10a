"""`modal` as another name of `zygo`, in this process only: nothing is installed under that name.

`import modal`, `from modal import App`, `import modal.exception` and the like give zygo's own modules and objects.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

SUBMODULES = {
    "modal": "zygo",
    "modal.app": "zygo.sdk.app",
    "modal.cls": "zygo.sdk.cls",
    "modal.exception": "zygo.errors",
    "modal.file_pattern_matcher": "zygo.sdk.patterns",
    "modal.functions": "zygo.sdk.function",
    "modal.function": "zygo.sdk.function",
    "modal.image": "zygo.sdk.image",
    "modal.partial_function": "zygo.sdk.partial",
    "modal.retries": "zygo.sdk.retries",
    "modal.secret": "zygo.sdk.secret",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `modal` and its submodules before any path is looked at."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "modal" and not fullname.startswith("modal."):
            return None
        if fullname in SUBMODULES or _placeholder(fullname) is not None:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == "modal")
        # An installed modal must not answer for the rest: its classes are not ours.
        raise ModuleNotFoundError(f"No module named {fullname!r} (zygo stands in for modal here)", name=fullname)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        if spec.name in SUBMODULES:
            module = importlib.import_module(SUBMODULES[spec.name])
            # The import system is about to write the alias's spec and loader into the module; exec_module undoes it.
            spec.loader_state = (module.__spec__, module.__loader__)
            return module
        placeholder = _placeholder(spec.name)
        assert placeholder is not None
        return placeholder

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader is self and spec.loader_state is not None:
            module.__spec__, module.__loader__ = spec.loader_state


def _placeholder(fullname: str) -> ModuleType | None:
    from zygo.sdk import unsupported

    name = fullname.partition(".")[2]
    return unsupported.module(name) if name in unsupported.MODULES else None


_finder = _Finder()


def install() -> None:
    """Make `modal` mean `zygo` in this process. A real one that was imported before is put aside. Idempotent."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    zygo = sys.modules["zygo"]
    if sys.modules.get("modal", zygo) is not zygo:
        for name in [n for n in sys.modules if n == "modal" or n.startswith("modal.")]:
            del sys.modules[name]
