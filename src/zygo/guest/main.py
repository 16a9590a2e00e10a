"""The image zygote: the first process in a sandbox. Imports the image's third-party modules and forks revision zygotes.

Started as `python <guest>/zygo/guest/main.py CONTROL_FD OPTIONS`, with OPTIONS a JSON object: `guest` and `runtime` (the
directories to put at the end of the path), `sandboxed`, and `cgroups` (descriptors of the groups to join). It runs no
user code, ever.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from typing import Any


def _set_up_path(options: dict[str, Any]) -> None:
    # Started as a file, this directory is first on the path: names such as `web` or `main` would be ours.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
    # The user's versions win: both go after the image's own packages.
    sys.path += [options["guest"], options["runtime"]]


class ImageZygote:
    """Answers `preload` and `revision` on its control socket."""

    def __init__(self, control: socket.socket, options: dict[str, Any]) -> None:
        from zygo.guest.fork_server import ForkServer

        self.control = control
        self.options = options
        self.server = ForkServer(
            control,
            {"preload": self.preload, "revision": self.revision},
            lambda pid, status: None,
            reap_all=True,
        )

    def preload(self, message: dict[str, Any], fds: list[int]) -> None:
        """Import modules, one at a time; say which before each, so that the server knows which one killed us."""
        from zygo import wire
        from zygo.guest.environ import recorded_names

        failed = {}
        with recorded_names() as names:
            for name in message["modules"]:
                wire.send(self.control, {"type": "preloading", "module": name})
                try:
                    importlib.import_module(name)
                except BaseException as error:
                    failed[name] = f"{type(error).__name__}: {error}"[:500]
                    for key in [k for k in sys.modules if k == name or k.startswith(name + ".")]:
                        del sys.modules[key]
            with contextlib.suppress(Exception):  # only a matter of speed; a revision says what is wrong with the image
                web = importlib.import_module("zygo.guest.web")
                web.rehearse()
        gc.collect()
        # Frozen objects are never looked at by the collector again. Without this, one collection in a revision zygote would
        # write to the header of every object that it inherited, and so copy every page of it: 50 ms.
        gc.freeze()
        wire.send(
            self.control,
            {"type": "preloaded", "failed": failed, "environ": sorted(names), "threads": _thread_count()},
        )

    def revision(self, message: dict[str, Any], fds: list[int]) -> None:
        """Fork a revision zygote in namespaces of its own. Descriptors: control, stdout, stderr, cgroups..."""
        pid = os.fork()
        if pid:
            for fd in fds:
                os.close(fd)
            return
        code = 1
        try:
            from zygo.guest import revision

            code = revision.enter(self.server, message, fds, self.options["sandboxed"])
        except BaseException as error:
            from zygo import wire

            if not isinstance(error, wire.PeerGoneError):
                import traceback

                traceback.print_exc()
        finally:
            os._exit(code)


def _thread_count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def main() -> None:
    """Serve until the server closes the control socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    options = json.loads(sys.argv[2])
    _set_up_path(options)
    from zygo import alias, wire
    from zygo.guest import isolate, process
    from zygo.sdk import context

    process.join_cgroups(options.get("cgroups") or [])
    alias.install()
    context.set_remote(True)
    # Off until a container serves: what is imported here stays, so there is nothing to collect.
    gc.disable()
    isolate.prctl(isolate.PR_SET_PDEATHSIG, isolate.SIGKILL)
    isolate.prctl(isolate.PR_SET_CHILD_SUBREAPER, 1)
    zygote = ImageZygote(control, options)
    wire.send(control, {"type": "up", "python": sys.version.split()[0], "pid": os.getpid()})
    zygote.server.serve()


if __name__ == "__main__":
    main()
