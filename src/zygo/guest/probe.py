"""Tries, inside a sandbox, every step that a container will need, and prints which one fails.

Run as `python probe.py STAGE_FILES` where a revision's fork server would run. Prints one JSON object:
{"ok": true} or {"ok": false, "step": ..., "error": ...}. `zygo doctor` and the server's start show it.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Exit status 0; the answer is what is printed."""
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
    sys.path.append(sys.argv[2])
    from zygo.guest import isolate

    step = "user namespace in the sandbox"
    read, write = os.pipe()
    try:
        uid, gid = os.getuid(), os.getgid()
        isolate.unshare(
            isolate.CLONE_NEWUSER
            | isolate.CLONE_NEWNS
            | isolate.CLONE_NEWPID
            | isolate.CLONE_NEWIPC
            | isolate.CLONE_NEWUTS
        )
        isolate.write_id_maps(uid, gid)
        step = "fork"
        if os.fork() == 0:
            os.close(read)
            os.write(write, json.dumps(_inner(sys.argv[1])).encode())
            os._exit(0)
        os.close(write)
        answer = os.read(read, 65536) or b'{"ok": false, "step": "fork", "error": "the child died"}'
        print(answer.decode())
    except OSError as error:
        print(json.dumps({"ok": False, "step": step, "error": str(error)}))


def _inner(files: str) -> dict[str, object]:
    from zygo.guest import isolate as steps

    step = "revision's root"
    try:
        tops = steps.build_revision_root(files)
        step = "proc"
        steps.mount("proc", "/proc", "proc", steps.MS_NOSUID | steps.MS_NODEV | steps.MS_NOEXEC)
        step = "container's namespaces"
        steps.unshare(steps.CLONE_NEWNS | steps.CLONE_NEWIPC | steps.CLONE_NEWUTS)
        step = "container's root"
        steps.build_container_root(tops, steps.carried())
        step = "dropping privileges"
        steps.drop_privileges()
    except OSError as error:
        return {"ok": False, "step": step, "error": str(error)}
    return {"ok": True}


if __name__ == "__main__":
    main()
