"""First on PYTHONPATH under `zygo python`: Python imports it at its start, before the program.

`modal` means `zygo` from then on, in this process and in the Python processes that it starts. The program finds everything else
as plain Python has it: this folder is not on its path, and a `sitecustomize` of the machine's own is imported, too.
"""

import os
import sys


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    try:
        from zygo import alias
        from zygo.sdk import context
    except ImportError:  # another interpreter, which does not have zygo
        pass
    else:
        alias.install()
        # Who runs a program by hand wants to see what its functions print.
        context.show_functions()
    _next()


def _next() -> None:
    import importlib.util

    own = sys.modules.pop("sitecustomize")
    spec = importlib.util.find_spec("sitecustomize")
    sys.modules["sitecustomize"] = own
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_begin()
