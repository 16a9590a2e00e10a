"""An image spec -> the layers to build and their hashes. Pure: no file is read, nothing is run.

A layer's hash covers all that its content depends on: its parent, its own step, and the environment that earlier
`env` steps set (an index URL or a compiler flag changes what is installed). `env` and `workdir` make no layer on disk;
they only distinguish images, so two images that differ in nothing else share their files.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zygo.builder.interpreters import Interpreter
    from zygo.model import ImageSpec, ImageStep

FORMAT = 1
"""Part of every hash; raised when the same plan is to be built differently, so that no old layer is taken for it."""

REQUIREMENTS = "requirements-{}.txt"
"""Where the content of the n-th requirements file is written, beside the environment."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s\"']+@")


@dataclass(frozen=True)
class Layer:
    """One step that leaves files behind, on top of `parent` (a hash; None for the base).

    `kind` is base, install or files. `step` is how the user wrote it, without credentials. An install layer has the
    `arguments` for `uv pip install`, the `requirements` files that they refer to (by `REQUIREMENTS` names) and the
    `env` of earlier steps; a files layer has `files` of (absolute path in the sandbox, sha256, mode bits).
    """

    hash: str
    parent: str | None
    kind: str
    step: str
    arguments: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """The layers from the base up (never empty), the image's identity, and what its processes start with."""

    layers: tuple[Layer, ...]
    image_hash: str
    env: dict[str, str]
    workdir: str | None


def plan(image: ImageSpec, interpreter: Interpreter) -> Plan:
    """What to build for `image` on `interpreter`.

    Raises UnsupportedError for a base or a step that this release cannot build, InvalidError for one that makes no
    sense.
    """
    if image.base != "debian_slim":
        raise UnsupportedError(
            f"Image.{image.base}() is not supported yet. Use zygo.Image.debian_slim() with pip_install()."
        )
    base = Layer(
        hash=_digest("base", interpreter.version, str(interpreter.path), str(interpreter.prefix)),
        parent=None,
        kind="base",
        step=f'debian_slim("{image.python_version}")',
    )
    layers = [base]
    env: dict[str, str] = {}
    workdir: str | None = None
    for step in image.steps:
        if step.kind == "env":
            env.update({str(key): str(value) for key, value in step.args.get("vars", {}).items()})
        elif step.kind == "workdir":
            workdir = posixpath.normpath(posixpath.join(workdir or "/root", str(step.args["path"])))
        else:
            layers.append(_layer(step, layers[-1].hash, env))
    return Plan(tuple(layers), _digest("image", layers[-1].hash, env, workdir), env, workdir)


def mask(text: str) -> str:
    """`text` with the user names and passwords in its URLs replaced; for everything that is shown or kept."""
    return _CREDENTIALS.sub("****@", text)


def _layer(step: ImageStep, parent: str, env: Mapping[str, str]) -> Layer:
    if step.kind in ("pip_install", "uv_pip_install", "pip_install_from_requirements"):
        arguments, requirements = _install(step)
        return Layer(
            hash=_digest("install", parent, arguments, requirements, env),
            parent=parent,
            kind="install",
            step=_written(step),
            arguments=arguments,
            requirements=requirements,
            env=dict(env),
        )
    if step.kind == "add_local":
        files = tuple(sorted((_inside(path), str(sha), int(mode)) for path, sha, mode in step.args["files"]))
        return Layer(
            hash=_digest("files", parent, files), parent=parent, kind="files", step=_written(step), files=files
        )
    raise UnsupportedError(
        f"Image.{step.kind}() is not supported yet. This release builds images with pip_install, uv_pip_install, "
        "pip_install_from_requirements, env, workdir and add_local_file/dir/python_source."
    )


def _install(step: ImageStep) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The arguments of `uv pip install` for a step, and the contents of the requirements files they name."""
    args = step.args
    requirements = _requirement_files(args)
    packages = [str(package) for package in args.get("packages") or ()]
    if not packages and not requirements:
        raise InvalidError(f"Image.{step.kind}() names no package. Give it at least one, e.g. {step.kind}('fastapi').")
    found: list[str] = []
    for option, key in (
        ("--find-links", "find_links"),
        ("--index-url", "index_url"),
        ("--extra-index-url", "extra_index_url"),
    ):
        found += [word for value in _listed(args.get(key)) for word in (option, value)]
    if args.get("extra_index_url") and step.kind != "uv_pip_install":
        # pip takes the best version over all indexes; uv would stop at the first index that has the name.
        found += ["--index-strategy", "unsafe-best-match"]
    if args.get("pre"):
        found += ["--prerelease", "allow"]
    found += shlex.split(str(args.get("extra_options") or ""))
    for number in range(len(requirements)):
        found += ["--requirement", REQUIREMENTS.format(number)]
    if packages:
        found += ["--", *packages]
    return tuple(found), requirements


def _requirement_files(args: Mapping[str, Any]) -> tuple[str, ...]:
    """The content of every requirements file of a step, without comments: editing one of those rebuilds nothing."""
    contents = [args["content"]] if "content" in args else []
    for item in args.get("requirements") or ():
        contents.append(item["content"] if isinstance(item, dict) else item[1])
    return tuple(
        "".join(f"{line.rstrip()}\n" for line in str(content).splitlines() if line.split("#", 1)[0].strip())
        for content in contents
    )


def _listed(value: Any) -> list[str]:
    if not value:
        return []
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]


def _inside(path: str) -> str:
    """An absolute path in the sandbox, normalised. Raises InvalidError for one that leaves the root or is relative."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidError(
            f"A file cannot be added at {path!r}: give an absolute path without '..', e.g. '/root/data.txt'."
        )
    return posixpath.normpath(path).replace("//", "/")


def _written(step: ImageStep) -> str:
    """The step as the user wrote it, as far as it matters."""
    if step.kind == "add_local":
        files = step.args["files"]
        return f"add_local({files[0][0]!r})" if len(files) == 1 else f"add_local({len(files)} files)"
    words = [json.dumps(str(package)) for package in step.args.get("packages") or ()]
    if "content" in step.args:
        words.append(json.dumps(str(step.args.get("path", "requirements.txt"))))
    for key in ("find_links", "index_url", "extra_index_url", "pre", "extra_options"):
        if step.args.get(key):
            words.append(f"{key}={step.args[key]!r}")
    return mask(f"{step.kind}({', '.join(words)})")


def _digest(*parts: Any) -> str:
    text = json.dumps([FORMAT, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]
