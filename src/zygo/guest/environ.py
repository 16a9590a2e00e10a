"""Which environment variables a block of code reads.

Libraries are imported before a revision's secrets are set, and some read the environment while they are imported. The
names read then are recorded; a revision that sets one of them gets an image zygote of its own, started with it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_IN_C = frozenset(
    {
        *("OMP_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "LD_PRELOAD", "MALLOC_ARENA_MAX", "TZ"),
        *("PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONUTF8", "PYTHONMALLOC"),
    }
)
"""Read with getenv(3) by common extension modules or by the interpreter itself, so that no hook in Python sees it."""


@contextmanager
def recorded_names() -> Iterator[set[str]]:
    """The names looked up in os.environ inside the block, and READ_IN_C."""
    names: set[str] = set(READ_IN_C)
    kind = type(os.environ)
    original = kind.__getitem__

    def recording(self: Any, key: Any) -> Any:
        if isinstance(key, str):
            names.add(key)
        return original(self, key)

    # os.environ.get, `in` and os.getenv all end in __getitem__ (collections.abc.Mapping).
    kind.__getitem__ = recording  # type: ignore[method-assign]
    try:
        yield names
    finally:
        kind.__getitem__ = original  # type: ignore[method-assign]
