"""Finds the interpreters of this machine, and of several with the wanted version the one that containers can read.

Interpreters are looked for where they are usually put (the path, /usr/bin, uv's and pyenv's folders, the one that runs
zygo) without starting uv; uv's own discovery is the last resort. Each candidate is asked what it is: pyenv's shims and
environments answer with another interpreter than their name says. As root the containers run under another uid, so each
is asked as such a uid first; one that this uid cannot run (in root's home) is mirrored by hard links.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zygo.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORTED = tuple(f"3.{minor}" for minor in range(9, 15))
"""The versions on which the guest code runs."""

_NOBODY = 65534
_PROBE_TIMEOUT = 20.0
_PROBE = """
import json, platform, sys, sysconfig
print(json.dumps([platform.python_implementation(), platform.python_version(), "%d.%d" % sys.version_info[:2],
                  getattr(sys, "_base_executable", sys.executable), sys.base_prefix,
                  bool(sysconfig.get_config_var("Py_GIL_DISABLED"))]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A CPython of this machine: its real executable, full version ("3.11.2") and installation prefix.

    `shared`: the uid under which containers run can execute it. Always true for an ordinary user.
    """

    path: Path
    version: str
    prefix: Path
    shared: bool = True

    @property
    def minor(self) -> str:
        """ "3.11" of "3.11.2"."""
        return ".".join(self.version.split(".")[:2])


def find(version: str, *, uv: Path | None = None, extra: tuple[Path, ...] = ()) -> Interpreter:
    """The interpreter for `version` ("3.X"). Blocks for some 20 ms per candidate; call it in a thread.

    `extra` are folders with installations of ours. Raises InvalidError for a version that the guest code does not
    run on, and NotFoundError, with the versions that are here, when there is none.
    """
    check(version)
    found = _search(version, uv, extra)
    if found is None:
        here = ", ".join(f"{item.version} at {item.path}" for item in available().values())
        raise NotFoundError(f"There is no Python {version} on this machine (it has {here or 'no supported one'}).")
    return found


def _search(version: str, uv: Path | None = None, extra: tuple[Path, ...] = ()) -> Interpreter | None:
    """The first interpreter of `version` that containers can run, else the first one."""
    private: Interpreter | None = None
    seen: set[Path] = set()
    for candidate in candidates(version, uv, extra):
        interpreter = probe(candidate) if _unseen(candidate, seen) else None
        if interpreter is None or interpreter.minor != version:
            continue
        if interpreter.shared:
            return interpreter
        private = private or interpreter
    return private


def check(version: str) -> None:
    """Raises InvalidError unless the guest code runs on `version`."""
    if version not in SUPPORTED:
        raise InvalidError(
            f"python_version={version!r} is not supported: "
            f"images have Python {SUPPORTED[0]} to {SUPPORTED[-1]}, written '3.X'."
        )


def available() -> dict[str, Interpreter]:
    """One interpreter for each supported version that this machine has. Starts a process per candidate."""
    found = {version: _search(version) for version in SUPPORTED}
    return {version: interpreter for version, interpreter in found.items() if interpreter is not None}


def probe(path: Path) -> Interpreter | None:
    """What the interpreter at `path` says it is; None when it does not run, is not CPython or has no GIL."""
    answer = _ask(path, _NOBODY) if os.geteuid() == 0 else None
    shared = answer is not None or os.geteuid() != 0
    answer = answer or _ask(path, None)
    if answer is None:
        return None
    implementation, full, _, executable, prefix, free_threaded = answer
    if implementation != "CPython" or free_threaded:
        return None
    return Interpreter(Path(executable).resolve(), str(full), Path(prefix).resolve(), shared)


def mirror(interpreter: Interpreter, folder: Path) -> Interpreter:
    """`interpreter` made reachable for containers: hard links to its files in `folder`, without its site-packages.

    Returns the interpreter itself when that does not help (it lies on another file system, for one). Holds nothing; the
    mirror stays for later.
    """
    key = hashlib.sha256(f"{interpreter.prefix}{interpreter.prefix.stat().st_mtime_ns}".encode()).hexdigest()[:8]
    target = folder / f"cpython-{interpreter.version}-{key}"
    if not target.exists():
        # A name of its own for each try: two threads may be here at once, and the rename decides.
        staging = folder / f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            shutil.copytree(interpreter.prefix, staging, symlinks=True, copy_function=_link, ignore=_unneeded)
            _open_folders(staging)
            _relocate(staging / interpreter.path.relative_to(interpreter.prefix), interpreter.prefix)
            staging.rename(target)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
    found = probe(target / interpreter.path.relative_to(interpreter.prefix))
    return found if found is not None and found.shared and found.prefix == target.resolve() else interpreter


def candidates(version: str, uv: Path | None, extra: tuple[Path, ...]) -> Iterator[Path]:
    """Programs that may be the interpreter, in the order in which they are asked; not all of them are there."""
    name = f"python{version}"
    yield Path(getattr(sys, "_base_executable", sys.executable))
    for folder in [*os.get_exec_path(), "/usr/local/bin", "/usr/bin"]:
        yield Path(folder) / name
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    installations = [
        *extra,
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python"),
        Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions",
    ]
    for installation in installations:
        with contextlib.suppress(OSError):  # another user's, when the variable was inherited through sudo
            yield from sorted(installation.glob(f"*/bin/{name}"), reverse=True)
    for folder in os.get_exec_path():
        yield Path(folder) / "python3"
    if uv is not None:
        yield from _ask_uv(version, uv)


def _ask_uv(version: str, uv: Path) -> Iterator[Path]:
    command = [str(uv), "python", "find", version, "--system", "--no-project", "--no-python-downloads"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and done.stdout.strip():
        yield Path(done.stdout.strip())


def _unseen(candidate: Path, seen: set[Path]) -> bool:
    """Whether `candidate` is a program that was not asked yet. A shim (one file, many names) counts by its name."""
    real = candidate.resolve()
    key = real if real.name.startswith("python") else candidate
    if key in seen or not os.path.isfile(candidate):
        return False
    seen.add(key)
    return True


def _ask(path: Path, uid: int | None) -> list[str] | None:
    # -I: neither the user's PYTHON* variables nor the current folder may answer for it.
    command = [str(path), "-I", "-S", "-c", _PROBE]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_PROBE_TIMEOUT,
            stdin=subprocess.DEVNULL,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        return list(json.loads(done.stdout)) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _link(source: str, target: str) -> str:
    os.link(source, target, follow_symlinks=False)
    return target


def _unneeded(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("site-packages", "share") or (name == "test" and "python3" in folder)}


def _open_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(stat.S_IMODE(Path(folder).stat().st_mode) | 0o755)


def _relocate(executable: Path, prefix: Path) -> None:
    """Lets a copy of a shared build find libpython beside itself: its run path, a C string with the absolute old
    folder, becomes a shorter relative one."""
    old, new = f"{prefix}/lib".encode() + b"\0", b"$ORIGIN/../lib"
    content = executable.read_bytes()
    if old not in content or len(new) >= len(old):
        return
    mode = executable.stat().st_mode
    executable.unlink()  # a hard link: writing to it would change the original
    executable.write_bytes(content.replace(old, new.ljust(len(old), b"\0")))
    executable.chmod(mode)
