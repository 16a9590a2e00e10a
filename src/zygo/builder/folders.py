"""What the builder does to folders: clone by hard links, open to all users, list distributions, publish by rename."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def ensure(folder: Path) -> Path:
    """`folder`, made when it is missing, that every uid can traverse and read, whatever the umask is."""
    if not folder.is_dir():
        ensure(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o755)
    return folder


def staging(parent: Path) -> Path:
    """A new folder in `parent` to build in."""
    folder = Path(tempfile.mkdtemp(dir=ensure(parent)))
    folder.chmod(0o755)
    return folder


def clone(source: Path, target: Path) -> None:
    """A copy of the folder `source` whose files are hard links to its files.

    Neither may ever be written in place; uv and the byte compiler replace files. Symbolic links are copied.
    """
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        # A file system without hard links, or the limit of links to one file (65000 on ext4) is reached.
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def open_to_all(root: Path) -> None:
    """Lets every uid read the files and folders in `root`.

    A file that was hidden by the umask of whoever filled uv's cache is copied first: its other names are not ours.
    """
    for folder, _, names in os.walk(root):
        here = Path(folder)
        mode = stat.S_IMODE(here.stat().st_mode)
        if mode & 0o555 != 0o555:
            here.chmod(mode | 0o555)
        for name in names:
            path = here / name
            found = path.lstat()
            wanted = stat.S_IMODE(found.st_mode) | (0o555 if found.st_mode & 0o100 else 0o444)
            if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) != wanted:
                _replace(path, wanted, found.st_nlink > 1)


def _replace(path: Path, mode: int, linked: bool) -> None:
    if linked:
        copy = path.with_name(f".{path.name}.zygo")
        shutil.copy2(path, copy)
        copy.chmod(mode)
        copy.replace(path)
    else:
        path.chmod(mode)


def add_files(root: Path, files: Iterable[tuple[str, str, int]], blobs: Callable[[str], Path]) -> None:
    """Puts each (absolute path, sha256, mode) into `root` as if that were `/`; later ones replace earlier ones."""
    for remote, sha256, mode in files:
        target = root / remote.lstrip("/")
        ensure(target.parent)
        target.unlink(missing_ok=True)
        shutil.copyfile(blobs(sha256), target)
        target.chmod((mode & 0o777) | 0o444)


def distributions(site_packages: Path) -> dict[str, str]:
    """Normalised name -> version of everything that is installed in `site_packages`, read from the folders' names."""
    found = {}
    for folder in sorted(site_packages.glob("*.dist-info")):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        found[str(canonicalize_name(name))] = version
    return found


def publish(source: Path, target: Path) -> None:
    """Makes `source` appear as `target` in one step; when there is a `target` already, that one stays."""
    ensure(target.parent)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def remove(folder: Path) -> None:
    """Removes `folder` and all in it, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
