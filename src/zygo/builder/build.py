"""Builds what a plan lacks: each layer in a staging folder, cloned from its parent, published by rename.

A layer is a whole Python environment, so that an image is one folder and nothing is put together when a container
starts; hard links make that cheap. Environments are relocatable, hence the rename changes nothing in them.

    <data>/images/<layer hash>/venv/        the environment
    <data>/images/<layer hash>/root/        files added with copy=True, as they lie under the sandbox's /
    <data>/images/<layer hash>/image.json   what is installed
    <data>/runtime/<version>-<hash>/        the guest's packages
    <data>/python/                          interpreters downloaded, or made reachable for containers
    <data>/staging/                         what is being built
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from zygo.builder import folders, interpreters, remembered, runtime_layer
from zygo.builder import plan as planning
from zygo.builder.once import Once, in_thread
from zygo.builder.uv import Outcome, Uv, run
from zygo.errors import ImageBuildError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from zygo.builder.interpreters import Interpreter
    from zygo.builder.plan import Layer
    from zygo.model import ImageSpec
    from zygo.settings import Settings

_TAIL = 40
"""Lines of a failed step that the error carries."""


@dataclass(frozen=True)
class BuiltImage:
    """An image on disk. All paths are absolute, readable by every uid, and the same inside the sandbox.

    `hash` identifies the image with its env and workdir; images that differ only in those share `venv`. `root` is
    a tree of files to be laid over the sandbox's `/`, None when there are none. `distributions`: normalised name ->
    version.
    """

    hash: str
    python: Path
    venv: Path
    site_packages: Path
    interpreter: Interpreter
    env: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    distributions: dict[str, str] = field(default_factory=dict)
    root: Path | None = None


class Builder:
    """Builds images and runtime layers in a data directory that it has for itself.

    Holds running children and background compilations until `close`. Everything built stays on disk.
    """

    def __init__(self, settings: Settings, *, uv: Path) -> None:
        data = settings.data_dir.absolute()
        self._images = data / "images"
        self._runtime = data / "runtime"
        self._staging = data / "staging"
        self._pythons = data / "python"
        self._memory = data / "interpreters.json"
        self._timeout = settings.build_timeout
        self._uv = Uv(uv, data / "uv-cache")
        self._once = Once()
        self._found: dict[str, Interpreter] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def sweep(self) -> None:
        """Removes what an earlier server left in staging. To be awaited once, before the first build."""
        await in_thread(partial(folders.remove, self._staging))

    async def close(self) -> None:
        """Ends what runs in the background. Builds end with their callers."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def settled(self) -> None:
        """Waits for what runs in the background: byte code for the layers built last."""
        await asyncio.gather(*self._background, return_exceptions=True)

    async def build(
        self, image: ImageSpec, *, on_line: Callable[[str, str], None], blobs: Callable[[str], Path]
    ) -> BuiltImage:
        """`image`, built as far as it is not yet there.

        `on_line(step, line)` gets what is said meanwhile and must not raise; `blobs(sha256)` is the file with that
        content. Raises ImageBuildError with the resolver's own words, InvalidError or UnsupportedError for a spec
        that cannot be built. A cancelled build leaves no process and no staging folder. Layers that several callers
        want are built once.
        """
        interpreter = await self.interpreter(image.python_version, on_line=on_line)
        planned = planning.plan(image, interpreter)
        for layer in planned.layers:
            if not self._record(layer.hash).is_file():
                work = partial(self._make_layer, layer, interpreter, blobs)
                await self._once.run(layer.hash, partial(on_line, layer.step), work)
        return self._built(planned, interpreter)

    async def interpreter(self, version: str, *, on_line: Callable[[str, str], None]) -> Interpreter:
        """The interpreter for "3.X": one of this machine, else one that uv downloads.

        Raises ImageBuildError naming the versions that are here and the command that adds one.
        """
        found = self._found.get(version)
        if found is None or not found.path.exists():
            step = f'debian_slim(python_version="{version}")'
            await self._once.run(f"python {version}", partial(on_line, step), partial(self._find, version, step))
        return self._found[version]

    async def runtime_layer(
        self, interpreter: Interpreter, *, on_line: Callable[[str, str], None] | None = None
    ) -> Path:
        """The folder with the guest's packages for that interpreter's version, built on first use; ImageBuildError."""
        version = interpreter.minor
        target = self._runtime / runtime_layer.folder_name(version)
        if not target.is_dir():
            listener = partial(on_line, f"runtime layer {version}") if on_line else _ignore
            await self._once.run(target.name, listener, partial(self._make_runtime, interpreter, target))
        return target

    async def _find(self, version: str, step: str, emit: Callable[[str], None]) -> None:
        state = await in_thread(partial(remembered.state_of, version, (self._pythons,)))
        known = await in_thread(partial(remembered.recall, self._memory, version, state))
        if known is not None:
            self._found[version] = known
            return
        search = partial(interpreters.find, version, uv=self._uv.path, extra=(self._pythons,))
        try:
            found = await in_thread(search)
        except NotFoundError as error:
            found = await self._download(version, step, str(error), emit)
        if not found.shared:
            await in_thread(partial(folders.ensure, self._pythons))
            found = await in_thread(partial(interpreters.mirror, found, self._pythons))
        self._found[version] = found
        # Elsewhere, in a home for one, what containers may read changes without the program itself changing.
        if any(found.path.is_relative_to(folder) for folder in ("/usr", self._pythons)):
            state = await in_thread(partial(remembered.state_of, version, (self._pythons,)))
            with contextlib.suppress(OSError):  # it is asked again by the next server
                await in_thread(partial(remembered.note, self._memory, version, state, found))

    async def _download(self, version: str, step: str, missing: str, emit: Callable[[str], None]) -> Interpreter:
        await in_thread(partial(folders.ensure, self._pythons))
        arguments = ["python", "install", version, "--install-dir", str(self._pythons), "--no-bin"]
        outcome = await self._uv.run(arguments, emit, cwd=self._pythons, limit=self._timeout)
        if outcome.code == 0:
            return await in_thread(partial(interpreters.find, version, extra=(self._pythons,)))
        output = _tail(outcome)
        raise ImageBuildError(
            f"{missing} Downloading it failed:\n{output}\n"
            f"Install it on this machine (uv python install {version}), or give python_version one that is here.",
            step=step,
            command=_shown(arguments),
            output=output,
        )

    async def _make_layer(
        self,
        layer: Layer,
        interpreter: Interpreter,
        blobs: Callable[[str], Path],
        emit: Callable[[str], None],
    ) -> None:
        work = await in_thread(partial(folders.staging, self._staging))
        try:
            content = work / "layer"
            if layer.parent is None:
                await self._make_base(layer, content, interpreter, emit)
            else:
                await in_thread(partial(folders.clone, self._images / layer.parent, content))
            if layer.kind == "install":
                await self._install(layer, content, work, emit)
            elif layer.kind == "files":
                await in_thread(partial(folders.add_files, content / "root", layer.files, blobs))
            await in_thread(partial(self._finish, layer, content, interpreter))
        finally:
            await in_thread(partial(folders.remove, work))
        if layer.kind == "install":
            # At the lowest priority: the first import works without it, only slower, and compiling takes longer than installing.
            self._compile_later(_site_packages(self._images / layer.hash / "venv", interpreter), interpreter)

    async def _make_base(
        self, layer: Layer, content: Path, interpreter: Interpreter, emit: Callable[[str], None]
    ) -> None:
        folders.ensure(content)
        arguments = ["venv", "--quiet", "--relocatable", "--no-project", "--no-python-downloads"]
        arguments += ["--python", str(interpreter.path), str(content / "venv")]
        outcome = await self._uv.run(arguments, emit, cwd=content, limit=self._timeout)
        if outcome.code != 0:
            self._failed(layer.step, arguments, outcome)

    async def _install(self, layer: Layer, content: Path, work: Path, emit: Callable[[str], None]) -> None:
        for number, text in enumerate(layer.requirements):
            (work / planning.REQUIREMENTS.format(number)).write_text(text)
        # Hard links, never copies over existing files: those are the parent's.
        arguments = ["pip", "install", "--python", str(content / "venv" / "bin" / "python"), "--link-mode", "hardlink"]
        arguments += layer.arguments
        outcome = await self._reaching(arguments, emit, cwd=work, env=layer.env)
        if outcome.code != 0:
            self._failed(layer.step, ["pip", "install", *layer.arguments], outcome)

    async def _reaching(
        self, arguments: list[str], emit: Callable[[str], None], *, cwd: Path, env: dict[str, str] | None = None
    ) -> Outcome:
        """Runs uv; when it fails for want of a network, once more with what its cache has."""
        outcome = await self._uv.run(arguments, emit, cwd=cwd, limit=self._timeout, env=env)
        if not outcome.network_failed:
            return outcome
        emit("The network cannot be reached; trying with what is cached.")
        offline = [*arguments[:2], "--offline", *arguments[2:]]
        second = await self._uv.run(offline, _ignore, cwd=cwd, limit=self._timeout, env=env)
        return second if second.code == 0 else outcome

    def _finish(self, layer: Layer, content: Path, interpreter: Interpreter) -> None:
        installed = folders.distributions(_site_packages(content / "venv", interpreter))
        record = {"step": layer.step, "parent": layer.parent, "python": interpreter.version, "distributions": installed}
        (content / "image.json").unlink(missing_ok=True)  # a hard link to the parent's
        (content / "image.json").write_text(json.dumps(record, indent=1))
        folders.open_to_all(content)
        folders.publish(content, self._images / layer.hash)

    async def _make_runtime(self, interpreter: Interpreter, target: Path, emit: Callable[[str], None]) -> None:
        work = await in_thread(partial(folders.staging, self._staging))
        try:
            content = folders.ensure(work / "site")
            python = ["--python", str(interpreter.path), "--no-python-downloads"]
            for wheels_only in (True, False):
                arguments = runtime_layer.arguments(interpreter.minor, str(content), wheels_only=wheels_only) + python
                outcome = await self._reaching(arguments, emit, cwd=work)
                if outcome.code == 0 or outcome.code is None or outcome.network_failed:
                    break
            if outcome.code != 0:
                self._failed(f"runtime layer for Python {interpreter.minor}", arguments, outcome)
            # Its programs name an interpreter without these packages on its path: they could not run.
            await in_thread(partial(folders.remove, content / "bin"))
            await self._compile(interpreter, content)
            await in_thread(partial(folders.open_to_all, content))
            await in_thread(partial(folders.publish, content, target))
        finally:
            await in_thread(partial(folders.remove, work))

    def compile_guest(self, guest: Path, interpreter: Interpreter) -> None:
        """Byte code of the guest package for `interpreter`, in the background, unless it is there: sandboxes cannot write it."""
        if not (guest / "zygo" / "__pycache__" / f"wire.cpython-{interpreter.minor.replace('.', '')}.pyc").exists():
            self._compile_later(guest, interpreter)

    def _compile_later(self, folder: Path, interpreter: Interpreter) -> None:
        """Byte code for what is published in `folder`. It adds files, each by rename, and changes none."""
        task = asyncio.create_task(self._compile(interpreter, folder), name=f"byte code of {folder}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _compile(self, interpreter: Interpreter, folder: Path) -> None:
        command = ["nice", "-n", "19", str(interpreter.path), "-I", "-m", "compileall", "-qq", str(folder)]
        # Files that do not compile (templates, tests for other versions) are nothing to report.
        await run(command, _ignore, cwd=folder, limit=self._timeout)

    def _built(self, planned: planning.Plan, interpreter: Interpreter) -> BuiltImage:
        top = self._images / planned.layers[-1].hash
        record = json.loads(self._record(top.name).read_text())
        root = top / "root"
        return BuiltImage(
            hash=planned.image_hash,
            python=top / "venv" / "bin" / "python",
            venv=top / "venv",
            site_packages=_site_packages(top / "venv", interpreter),
            interpreter=interpreter,
            env=dict(planned.env),
            workdir=planned.workdir,
            distributions=dict(record["distributions"]),
            root=root if root.is_dir() else None,
        )

    def _record(self, layer: str) -> Path:
        return self._images / layer / "image.json"

    def _failed(self, step: str, arguments: Sequence[str], outcome: Outcome) -> NoReturn:
        reason = f"took longer than {self._timeout:g} s (build_timeout)" if outcome.code is None else "failed"
        output = _tail(outcome)
        raise ImageBuildError(
            f"Image step {step} {reason}:\n{output or 'uv printed nothing.'}",
            step=step,
            command=_shown(arguments),
            output=output,
        )


def _site_packages(venv: Path, interpreter: Interpreter) -> Path:
    return venv / "lib" / f"python{interpreter.minor}" / "site-packages"


def _tail(outcome: Outcome) -> str:
    lines = [line for line in outcome.lines if not line.startswith("Using Python ")]
    return planning.mask("\n".join(lines[-_TAIL:]))


def _shown(arguments: Sequence[str]) -> str:
    return planning.mask(" ".join(["uv", *arguments]))


def _ignore(_line: str) -> None:
    pass
