"""Image: an immutable recipe for what a container finds when it starts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Union

from zygo.errors import InvalidError
from zygo.model import ImageSpec, ImageStep
from zygo.sdk import context, local_files, requirements
from zygo.sdk.image_later import Later
from zygo.sdk.parameters import check_env
from zygo.sdk.patterns import NON_PYTHON_FILES, Ignore
from zygo.sdk.sources import LocalSource, WatchRoot, sha256_of
from zygo.sdk.unsupported import refusal

if TYPE_CHECKING:
    from zygo.sdk.local_files import Added

Packages = Union[str, Sequence[str]]
OLDEST, NEWEST = (3, 9), (3, 14)
"""The Python versions on which the code inside a container runs."""


@dataclass(frozen=True)
class ResolvedImage:
    """An image with its files found: what to build, what containers get besides, what to upload and to watch."""

    spec: ImageSpec
    attached: tuple[LocalSource, ...] = ()
    build_sources: tuple[LocalSource, ...] = ()
    watch: tuple[WatchRoot, ...] = ()


_Resolve = Callable[[], "tuple[Sequence[ImageStep], Sequence[LocalSource], Sequence[WatchRoot]]"]


class Image:
    """An immutable recipe: a base and steps on it. Every method gives a new Image and changes nothing.

        image = zygo.Image.debian_slim().pip_install("fastapi[standard]", "numpy")

    Nothing is built before an app that uses it is served; files of this machine are read then, too.
    """

    def __init__(
        self,
        python_version: str | None,
        parent: Image | None = None,
        step: _Resolve | None = None,
        attached: Callable[[], Added] | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        self._python_version = python_version
        self._parent = parent
        self._step = step
        self._attached = attached
        self._has_attached: bool = attached is not None or (parent is not None and parent._has_attached)
        self._notices: tuple[str, ...] = (*(parent._notices if parent else ()), *notices)
        self._failures: list[ImportError] = []
        self._resolved: ResolvedImage | None = None

    def __repr__(self) -> str:
        return f"Image(python_version={self._python_version or _local_version()!r}, {len(self._chain()) - 1} steps)"

    # -- bases and steps ---------------------------------------------------------------------------------------------

    @classmethod
    def debian_slim(cls, python_version: str | None = None, *, force_build: bool = False) -> Image:
        """A Python environment of its own on this machine's system.

        Arguments:
            python_version: such as "3.12", from 3.9 to 3.14; this interpreter's unless given.

        Raises InvalidError for another version.
        """
        return cls(None if python_version is None else _check_version(python_version), notices=_forced(force_build))

    def pip_install(
        self,
        *packages: Packages,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        **build: Any,
    ) -> Image:
        """Install packages, given as pip takes them ("numpy", "fastapi[standard]>=0.115").

        Raises InvalidError for what is not the name of a package.
        """
        options = _options(find_links, index_url, extra_index_url, pre, extra_options)
        return self._install("pip_install", packages, options, build)

    def uv_pip_install(
        self,
        *packages: Packages,
        requirements: Sequence[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        uv_version: str | None = None,
        **build: Any,
    ) -> Image:
        """The same as `pip_install`, and the packages of `requirements` files besides. `uv_version` is not used."""
        options = _options(find_links, index_url, extra_index_url, pre, extra_options)
        if isinstance(requirements, str):
            raise InvalidError(f"image.uv_pip_install(): requirements= takes a list: requirements=[{requirements!r}].")
        return self._install("uv_pip_install", packages, options, build, tuple(requirements or ()))

    def pip_install_from_requirements(
        self,
        requirements_txt: str | os.PathLike[str],
        find_links: str | None = None,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        **build: Any,
    ) -> Image:
        """Install what a requirements file of this machine says; a change of it is a change of the image."""
        call = "image.pip_install_from_requirements()"
        notices = _check_build(call, build)
        path = os.path.abspath(os.fspath(requirements_txt))
        options = _options(find_links, index_url, extra_index_url, pre, extra_options)

        def resolve() -> tuple[Sequence[ImageStep], Sequence[LocalSource], Sequence[WatchRoot]]:
            found = requirements.read(call, path)
            args = {"path": os.fspath(requirements_txt), "content": found.content, **options}
            return [ImageStep("pip_install_from_requirements", args)], [], found.watch

        return self._with(call, resolve, notices)

    def env(self, vars: Mapping[str, str]) -> Image:
        """Set environment variables. Raises InvalidError for what is not text."""
        values = check_env("image.env()", vars)
        return self._with("image.env()", _fixed(ImageStep("env", {"vars": values})))

    def workdir(self, path: str | os.PathLike[str]) -> Image:
        """Set the working directory, an absolute path in the container."""
        place = os.fspath(path)
        if not place.startswith("/"):
            raise InvalidError(f"image.workdir({place!r}) is not absolute. Use workdir({'/root/' + place!r}).")
        return self._with("image.workdir()", _fixed(ImageStep("workdir", {"path": place})))

    def add_local_file(self, local_path: str | os.PathLike[str], remote_path: str, *, copy: bool = False) -> Image:
        """Add a file of this machine.

        Arguments:
            remote_path: absolute; with a slash at its end, the directory.
            copy: make it part of the built image; otherwise it is attached when containers start, and no build step
                may follow.

        Raises InvalidError for a remote path that cannot be.
        """
        call = "image.add_local_file()"
        return self._add(call, local_files.add_file(call, local_path, os.fspath(remote_path)), copy)

    def add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str,
        *,
        copy: bool = False,
        ignore: Ignore = (),
    ) -> Image:
        """Add a directory of this machine, without what `ignore` picks (.dockerignore patterns, or a function of the
        relative path) and without .git, __pycache__ and virtual environments. `copy` as for `add_local_file`."""
        call = "image.add_local_dir()"
        return self._add(call, local_files.add_dir(call, local_path, os.fspath(remote_path), ignore), copy)

    def add_local_python_source(self, *modules: str, copy: bool = False, ignore: Ignore = NON_PYTHON_FILES) -> Image:
        """Add modules or packages of this machine by their import names, to /root. `copy` as for `add_local_file`."""
        call = "image.add_local_python_source()"
        return self._add(call, local_files.add_python_source(call, modules, ignore), copy)

    def pipe(self, func: Callable[..., Image], *args: Any, **kwargs: Any) -> Image:
        """`func(image, *args, **kwargs)`, for steps that several images share."""
        return func(self, *args, **kwargs)

    @contextmanager
    def imports(self) -> Iterator[None]:
        """Imports of what only the image has: a missing module is ignored here, and an error in its containers.

        with image.imports():
            import torch
        """
        try:
            yield
        except ImportError as error:
            self._failures.append(error)
            if context.is_local():
                if error.name:
                    _missing.append(error.name)
            else:
                _check_served(self, error)

    # -- for the loader ----------------------------------------------------------------------------------------------

    def notices(self) -> tuple[str, ...]:
        """What the user should know about its steps."""
        return self._notices

    def resolve(self) -> ResolvedImage:
        """Read its files of this machine, once. Raises InvalidError when one is missing."""
        if self._resolved is None:
            steps: list[ImageStep] = []
            build: list[LocalSource] = []
            attached: list[LocalSource] = []
            watch: list[WatchRoot] = []
            for image in self._chain():
                if image._step is not None:
                    made, sources, roots = image._step()
                    steps += made
                    build += sources
                    watch += roots
                if image._attached is not None:
                    added = image._attached()
                    attached += added.sources
                    watch += added.watch
            spec = ImageSpec(self._python_version or _local_version(), steps=tuple(steps))
            self._resolved = ResolvedImage(spec, tuple(attached), tuple(build), tuple(watch))
        return self._resolved

    def derives_from(self, other: Image) -> bool:
        """Whether this is `other` or made from it."""
        return other in self._chain()

    def _chain(self) -> list[Image]:
        chain: list[Image] = []
        image: Image | None = self
        while image is not None:
            chain.append(image)
            image = image._parent
        return chain[::-1]

    def _with(self, call: str, step: _Resolve, notices: tuple[str, ...] = ()) -> Image:
        if self._has_attached:
            raise InvalidError(
                f"{call} comes after an add_local_*() without copy=True, whose files are only attached when containers "
                f"start. Move {call} before it, or add the files with copy=True."
            )
        return Image(self._python_version, self, step, notices=notices)

    def _add(self, call: str, find: Callable[[], Added], copy: bool) -> Image:
        if not copy:
            return Image(self._python_version, self, attached=find)

        def resolve() -> tuple[Sequence[ImageStep], Sequence[LocalSource], Sequence[WatchRoot]]:
            added = find()
            files = [[source.remote_path, sha256_of(source.local_path), source.mode] for source in added.sources]
            return [ImageStep("add_local", {"copy": True, "files": files})], added.sources, added.watch

        return self._with(call, resolve)

    def _install(
        self,
        kind: str,
        packages: tuple[Packages, ...],
        options: dict[str, Any],
        build: dict[str, Any],
        shown: tuple[str, ...] = (),
    ) -> Image:
        call = f"image.{kind}()"
        files = tuple(map(os.path.abspath, shown))
        notices = _check_build(call, build)
        names = _flatten(call, packages)
        if not names and not files:
            return self

        def resolve() -> tuple[Sequence[ImageStep], Sequence[LocalSource], Sequence[WatchRoot]]:
            args: dict[str, Any] = {"packages": list(names), **options}
            found = [requirements.read(call, path) for path in files]
            if found:
                args["requirements"] = [{"path": p, "content": f.content} for p, f in zip(shown, found)]
            return [ImageStep(kind, args)], [], [root for f in found for root in f.watch]

        return self._with(call, resolve, notices)

    # -- what a later release brings ---------------------------------------------------------------------------------

    apt_install = Later()
    run_commands = Later()
    dockerfile_commands = Later()
    run_function = Later()
    from_registry = Later()
    from_dockerfile = Later()
    from_scratch = Later()
    from_aws_ecr = Later()
    from_gcp_artifact_registry = Later()
    from_id = Later()
    from_name = Later()
    publish = Later()
    build = Later()
    micromamba = Later()
    micromamba_install = Later()
    conda = Later()
    conda_install = Later()
    uv_sync = Later()
    pip_install_from_pyproject = Later()
    poetry_install_from_file = Later()
    poetry_install_from_lockfile = Later()
    pip_install_private_repos = Later()
    entrypoint = Later()
    shell = Later()
    cmd = Later()
    copy_mount = Later()
    copy_local_file = Later()
    copy_local_dir = Later()
    extend = Later()


# -- imports() -------------------------------------------------------------------------------------------------------

_missing: list[str] = []
_served: list[tuple[str, Image]] = []


def missing_imports() -> list[str]:
    """The modules that `Image.imports()` did not find on this machine, in order."""
    return list(_missing)


def forget_imports() -> None:
    """Start anew, for the next evaluation in this process."""
    _missing.clear()
    _served.clear()


def notice_served(function: str, image: Image) -> None:
    """A function was registered. In a container that serves it, an import that its image should have had and that
    failed is raised now; those of other functions' images are not this container's business."""
    _served.append((function, image))
    names = context.served_functions()
    if context.is_local() or names is None or function not in names:
        return
    for ancestor in image._chain():
        if ancestor._failures:
            raise ancestor._failures[0]


def _check_served(image: Image, error: ImportError) -> None:
    names = context.served_functions()
    if names is None or any(name in names and used.derives_from(image) for name, used in _served):
        raise error


# -- checks ----------------------------------------------------------------------------------------------------------


def _fixed(step: ImageStep) -> _Resolve:
    return lambda: ([step], [], [])


def _local_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _check_version(version: Any) -> str:
    match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", version) if isinstance(version, str) else None
    if match and OLDEST <= (int(match[1]), int(match[2])) <= NEWEST:
        return f"{match[1]}.{match[2]}"
    span = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    raise InvalidError(
        f"Image.debian_slim(python_version={version!r}) must be a text from {span}. Use python_version='3.12'."
    )


def _options(find_links: Any, index_url: Any, extra_index_url: Any, pre: bool, extra_options: str) -> dict[str, Any]:
    return {
        "find_links": find_links,
        "index_url": index_url,
        "extra_index_url": extra_index_url,
        "pre": bool(pre),
        "extra_options": extra_options,
    }


def _check_build(call: str, build: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that every build step takes. Returns warnings."""
    unknown = sorted(set(build) - {"env", "secrets", "gpu", "force_build"})
    if unknown:
        raise InvalidError(f"{call} has no parameter {unknown[0]!r}.")
    for name in ("env", "secrets"):
        if build.get(name):
            raise refusal(f"{call}: {name}= of a build step", "Set it in the environment of `zygo server start`.")
    gpu = (f"{call}: gpu={build['gpu']!r} is not honoured: images are built without one",) if build.get("gpu") else ()
    return (*gpu, *_forced(bool(build.get("force_build"))))


def _forced(force_build: bool) -> tuple[str, ...]:
    return ("force_build=True is not honoured: a step is built again when it changes",) if force_build else ()


def _flatten(call: str, packages: tuple[Packages, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for item in packages:
        for name in [item] if isinstance(item, str) else item:
            if not isinstance(name, str) or not name.strip():
                raise InvalidError(f"{call}: {name!r} is not the name of a package, such as 'numpy'.")
            if name.startswith("-"):
                raise InvalidError(
                    f"{call}: {name!r} is an option. Use extra_options={name!r}, or "
                    f"pip_install_from_requirements(...) for a requirements file."
                )
            if name.startswith((".", "/", "~", "file:")):
                raise InvalidError(
                    f"{call}: {name!r} is a path of this machine, which the build cannot see. "
                    f"Use add_local_python_source('your_package')."
                )
            names.append(name.strip())
    return tuple(names)
