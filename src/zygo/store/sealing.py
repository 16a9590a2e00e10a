"""A spec in two columns: without its functions' env, which anybody with the database may read, and that env, which is sealed."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zygo.model import AppSpec


def without_env(spec: AppSpec) -> tuple[AppSpec, str | None]:
    """`spec` without its functions' env, and that as the text to be sealed; None when there is none."""
    env = [function.env for function in spec.functions]
    bare = dataclasses.replace(spec, functions=tuple(dataclasses.replace(f, env={}) for f in spec.functions))
    return bare, (json.dumps(env, separators=(",", ":")) if any(env) else None)


def with_env(spec: AppSpec, env: str) -> AppSpec:
    """What `without_env` was given."""
    functions = (dataclasses.replace(f, env=own) for f, own in zip(spec.functions, json.loads(env), strict=True))
    return dataclasses.replace(spec, functions=tuple(functions))
