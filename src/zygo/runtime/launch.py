"""Root's way into a sandbox: bind what an unprivileged uid could not reach, become that uid, start bubblewrap.

Run as `python -I -S launch.py OPTIONS COMMAND...` with OPTIONS a JSON object {"uid", "gid", "sources": [path, ...], "stage"}.
Sandboxed code never runs under kernel uid 0 (root without capabilities could still open /proc/sys/kernel/core_pattern), but
an interpreter in root's home, or a data directory under a private one, cannot be traversed by another uid. So each of
`sources` is bound to `<stage>/<index>` in a mount namespace of our own, where nothing of it stays behind.
"""

import ctypes
import json
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: "bytes | None", flags: int, data: "bytes | None") -> None:
    if libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def _bind(sources: "list[str]", stage: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    _mount(libc, "none", "/", None, MS_REC | MS_PRIVATE, None)
    # Opened first: the tmpfs below may cover one of them. In the new namespace, since a bind's source must be of it.
    fds = [os.open(path, os.O_PATH) for path in sources]
    _mount(libc, "tmpfs", stage, b"tmpfs", 0, b"mode=755,size=64k")
    for index, fd in enumerate(fds):
        target = f"{stage}/{index}"
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(libc, f"/proc/self/fd/{fd}", target, None, MS_BIND | MS_REC, None)
        os.close(fd)


def main() -> None:
    """Never returns: becomes COMMAND, or exits 126 with the reason on stderr."""
    options = json.loads(sys.argv[1])
    try:
        if options["sources"]:
            _bind(options["sources"], options["stage"])
        os.setgroups([])
        os.setresgid(options["gid"], options["gid"], options["gid"])
        os.setresuid(options["uid"], options["uid"], options["uid"])
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        print(f"zygo: cannot enter the sandbox: {error}", file=sys.stderr)
        os._exit(126)


if __name__ == "__main__":
    main()
