"""Namespaces, mounts and privileges of a revision and of a container, from inside.

The order was found by trial (see docs/concepts/isolation.md): cgroup -> unshare -> private mounts -> proc -> drop
capabilities -> no_new_privs -> seccomp. Everything here runs between a fork and the first byte of user code, so it is
straight-line system calls through ctypes: no allocation-heavy library, nothing that could start a thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Give this process new namespaces. Raises OSError."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace behind `fd`. Raises OSError."""
    _check(_libc.setns(fd, kind), "setns")


def prctl(option: int, value: int) -> int:
    """prctl(2) with one argument."""
    return int(_libc.prctl(option, value, 0, 0, 0))


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError naming the target."""
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount {kind or 'bind'} on {target}",
    )


def write_id_maps(uid: int, gid: int) -> None:
    """Map root of the new user namespace to `uid` and `gid`, the only ids that exist in it."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def loopback_up() -> None:
    """Bring `lo` of this network namespace up. Raises OSError."""
    SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def refuse_link_local() -> None:
    """Make 169.254.0.0/16 unreachable: clouds give a machine's credentials to whoever asks there. Raises OSError."""
    SIOCADDRT, RTF_UP, RTF_REJECT = 0x890B, 0x1, 0x200

    def address(text: str) -> bytes:
        return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))

    # struct rtentry of <net/route.h>: padding, destination, gateway, mask, flags, then fields that stay zero.
    route = struct.pack(
        "@L16s16s16sH", 0, address("169.254.0.0"), address("0.0.0.0"), address("255.255.0.0"), RTF_UP | RTF_REJECT
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCADDRT, route.ljust(120, b"\0"))


# -- the file system of a revision -----------------------------------------------------------------------------------

STAGE = "/.zygo"
"""Where the sandbox keeps what is only for us: the new root while it is made, upper layers, the revision's files."""

DOOR = f"{STAGE}/server"
"""Where it shows the socket through which containers call functions."""

_SKIPPED = {".zygo", "root", "tmp", "run"}
_PRIVATE_TMPFS = MS_NOSUID | MS_NODEV


def build_revision_root(files: str) -> list[str]:
    """Make and enter the root that this revision's processes see; the image's is below, read-only.

    Arguments:
        files: directory whose tree mirrors the absolute paths of the revision's own files (`files`/root/app.py).

    Returns the top-level directories that are overlays, for `build_container_root`. Must run in new mount and user
    namespaces. The other revisions' files, which the sandbox also holds, are out of reach afterwards: the old root
    is detached.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    root = f"{STAGE}/newroot"
    mount("tmpfs", root, "tmpfs", _PRIVATE_TMPFS, "mode=755")
    for name in os.listdir("/"):
        if name in _SKIPPED:
            continue
        source, target = f"/{name}", f"{root}/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target)
            mount(source, target, None, MS_BIND | MS_REC)
    for name in ("root", "tmp", "run", ".zygo"):
        os.mkdir(f"{root}/{name}")
    for name, mode in (("tmp", "1777"), ("run", "755"), ("dev/shm", "1777"), (".zygo", "755")):
        mount("tmpfs", f"{root}/{name}", "tmpfs", _PRIVATE_TMPFS, f"mode={mode}")
    if os.path.isdir(DOOR):
        os.mkdir(root + DOOR)
        mount(DOOR, root + DOOR, None, MS_BIND)
    os.mkdir(f"{root}{STAGE}/files")
    mount(files, f"{root}{STAGE}/files", None, MS_BIND)
    tops = []
    for top in sorted({"root", *os.listdir(files)}):
        own = f"{root}{STAGE}/files/{top}"
        if not os.path.isdir(own):  # a file right below the root
            os.close(os.open(f"{root}/{top}", os.O_CREAT | os.O_WRONLY, 0o644))
            mount(own, f"{root}/{top}", None, MS_BIND)
            continue
        os.makedirs(f"{root}/{top}", exist_ok=True)
        if top in _SKIPPED or not os.path.isdir(f"/{top}"):
            _overlay(f"{root}/{top}", [own], f"{root}{STAGE}/{top}")
        elif not _has_mounts_below(f"/{top}"):
            _overlay(f"{root}/{top}", [own, f"/{top}"], f"{root}{STAGE}/{top}")
        else:
            _lay_over(f"{root}/{top}", own)
            continue
        tops.append(top)
    for path in carried():
        os.makedirs(root + path, exist_ok=True)
        mount(path, root + path, None, MS_BIND | MS_REC)
    for name in ("container", "old"):
        os.mkdir(f"{root}{STAGE}/{name}")
    _check(
        _libc.mount(None, root.encode(), None, ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_RDONLY | _PRIVATE_TMPFS), None),
        "remount /",
    )
    _pivot_root(root, f"{root}{STAGE}/old")
    os.chdir("/")
    _check(_libc.umount2(f"{STAGE}/old".encode(), MNT_DETACH), "umount old root")
    return tops


def know_hostname(name: str) -> None:
    """Let this machine's own name resolve: servers that bind to any address look it up first, and would wait for DNS."""
    if not os.path.isfile("/etc/hosts") or os.path.exists(f"{STAGE}/files/etc/hosts"):
        return
    with open("/etc/hosts") as file:
        text = file.read()
    own = f"{STAGE}/hosts"
    with open(own, "w") as file:
        file.write(f"{text.rstrip()}\n127.0.0.1 {name}\n")
    mount(own, "/etc/hosts", None, MS_BIND)


def carried() -> list[str]:
    """The mounts in what a revision and its containers have of their own; to be found before these cover them."""
    # An interpreter or an image may itself lie under /root or /tmp on the host (root's pyenv, a test's data directory).
    # The sandbox shows it at the same path, which the revision's and the container's own directories cover.
    paths = (line.split()[1].replace("\\040", " ") for line in _mounts())
    found: list[str] = []
    for path in sorted(p for p in paths if p.startswith(("/root/", "/tmp/", "/run/"))):
        if not found or not path.startswith(found[-1] + "/"):
            found.append(path)
    return found


def _mounts() -> list[str]:
    with open("/proc/self/mounts") as file:
        return file.read().splitlines()


def build_container_root(tops: list[str], carried: list[str]) -> None:
    """Private writable layers for one container, over those of its revision zygote (whose module may have written).

    `tops` is what `build_revision_root` returned, `carried` what `carried` found after it.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kept = {path: os.open(path, os.O_PATH) for path in carried}
    base = f"{STAGE}/container"
    mount("tmpfs", base, "tmpfs", _PRIVATE_TMPFS, "mode=755")
    for top in tops:
        if top in _SKIPPED:
            _overlay(f"/{top}", [f"{STAGE}/{top}/upper", f"{STAGE}/files/{top}"], f"{base}/{top}")
        else:  # over the zygote's overlay as it stands: the image's directory is part of it
            _overlay(f"/{top}", [f"/{top}"], f"{base}/{top}")
    for path, mode in (("/tmp", "1777"), ("/dev/shm", "1777"), ("/run", "755")):
        if os.listdir(path):
            _overlay(path, [path], f"{base}/{path.strip('/').replace('/', '-')}")
        else:
            mount("tmpfs", path, "tmpfs", _PRIVATE_TMPFS, f"mode={mode}")
    for path, fd in kept.items():
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)


def _overlay(target: str, lowers: list[str], private: str) -> None:
    os.makedirs(f"{private}/upper")
    os.mkdir(f"{private}/work")
    os.chmod(f"{private}/upper", os.stat(lowers[0]).st_mode & 0o7777)
    options = f"lowerdir={':'.join(lowers)},upperdir={private}/upper,workdir={private}/work,userxattr"
    mount("overlay", target, "overlay", _PRIVATE_TMPFS, options)


def _has_mounts_below(path: str) -> bool:
    return any(line.split()[1].startswith(path + "/") for line in _mounts())


def _lay_over(target: str, own: str) -> None:
    """Files of the revision over a directory that cannot be an overlay's lower layer, since other mounts lie in it (/etc):
    each is bound over its place, below a tmpfs that repeats the directories which must hold new names."""
    for folder, folders, names in os.walk(own):
        relative = os.path.relpath(folder, own)
        place = os.path.normpath(f"{target}/{relative}")
        if any(not os.path.lexists(f"{place}/{name}") for name in folders + names):
            _repeat_directory(place)
        for name in folders:
            os.makedirs(f"{place}/{name}", exist_ok=True)
        for name in names:
            if not os.path.lexists(f"{place}/{name}"):
                os.close(os.open(f"{place}/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
            mount(f"{folder}/{name}", f"{place}/{name}", None, MS_BIND)


def _repeat_directory(path: str) -> None:
    old = os.open(path, os.O_PATH)
    entries = [(e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir(path)]
    mount("tmpfs", path, "tmpfs", _PRIVATE_TMPFS, "mode=755")
    for name, is_directory, is_link in entries:
        source, place = f"/proc/self/fd/{old}/{name}", f"{path}/{name}"
        if is_link:
            os.symlink(os.readlink(source), place)
            continue
        if is_directory:
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(source, place, None, MS_BIND | MS_REC)
    os.close(old)


def _pivot_root(new: str, old: str) -> None:
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _check(_libc.syscall(number, new.encode(), old.encode()), "pivot_root")


# -- privileges ------------------------------------------------------------------------------------------------------


class _Filter(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter))]


_LOAD, _EQUAL, _AT_LEAST, _AND_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ENOSYS, _EPERM = 38, 1
_NAMESPACE_FLAGS = 0x7E020000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Number of seccomp(2), clone(2), clone3(2), then what a container has no business with: namespaces, mounts, keys, kernel
# modules, other processes' memory, bpf, perf, userfaultfd, io_uring (its operations bypass this filter), swap, reboot, time.
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_SOCKET = {"x86_64": 41, "aarch64": 198}
_EAFNOSUPPORT = 97
_REFUSED = {
    "x86_64": (
        101, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 172, 173, 175, 176, 179, 212, 227, 246, 248, 249, 250,
        272, 298, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442,
    ),
    "aarch64": (
        18, 39, 40, 41, 51, 60, 97, 104, 105, 106, 112, 117, 142, 170, 217, 218, 219, 224, 225, 241, 264, 265, 266, 268,
        270, 271, 272, 273, 280, 282, 294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442,
    ),
}  # fmt: skip


def _seccomp_program() -> _Program | None:
    machine = platform.machine()
    if machine not in _SECCOMP:
        return None
    program = [
        _Filter(_LOAD, 0, 0, 4),
        _Filter(_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        _Filter(_RETURN, 0, 0, _ERRNO | _EPERM),  # another architecture's call numbers (i386): nothing is known of them
        _Filter(_LOAD, 0, 0, 0),
        _Filter(_AT_LEAST, 0, 1, 0x40000000),
        _Filter(_RETURN, 0, 0, _ERRNO | _EPERM),  # x32: the same calls under other numbers
        # clone3 hides its flags behind a pointer: "no such call" makes glibc fall back to clone, which can be checked.
        _Filter(_EQUAL, 0, 1, _CLONE3),
        _Filter(_RETURN, 0, 0, _ERRNO | _ENOSYS),
        _Filter(_EQUAL, 0, 4, _CLONE[machine]),
        _Filter(_LOAD, 0, 0, 16),
        _Filter(_AND_SET, 0, 1, _NAMESPACE_FLAGS),
        _Filter(_RETURN, 0, 0, _ERRNO | _EPERM),
        _Filter(_LOAD, 0, 0, 0),
        # Socket families that network namespaces divide, and no others: vsock reaches the hypervisor from any of them.
        _Filter(_EQUAL, 0, 6, _SOCKET[machine]),
        _Filter(_LOAD, 0, 0, 16),
        _Filter(_EQUAL, 4, 0, socket.AF_UNIX),
        _Filter(_EQUAL, 3, 0, socket.AF_INET),
        _Filter(_EQUAL, 2, 0, socket.AF_INET6),
        _Filter(_EQUAL, 1, 0, socket.AF_NETLINK),
        _Filter(_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT),
        _Filter(_LOAD, 0, 0, 0),
    ]
    for number in _REFUSED[machine]:
        program += [_Filter(_EQUAL, 0, 1, number), _Filter(_RETURN, 0, 0, _ERRNO | _EPERM)]
    program.append(_Filter(_RETURN, 0, 0, _ALLOW))
    filters = (_Filter * len(program))(*program)
    return _Program(len(program), filters)


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            return int(file.read())
    except OSError:
        return 63  # dropping one that does not exist is an ignored error


_PROGRAM = _seccomp_program()
_LAST_CAPABILITY = _last_capability()
_CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(0x20080522, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


def drop_privileges() -> None:
    """Give up every capability for good and filter system calls; threads and subprocesses still work after it."""
    for capability in range(_LAST_CAPABILITY + 1):
        prctl(PR_CAPBSET_DROP, capability)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES), "capset")
    _check(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    if _PROGRAM is not None:
        number = _SECCOMP[platform.machine()]
        _check(_libc.syscall(number, 1, 0, ctypes.byref(_PROGRAM)), "seccomp")
