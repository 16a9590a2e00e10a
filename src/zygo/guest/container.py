"""A container: a fork of its revision zygote, moved into its own namespaces, serving one function."""

from __future__ import annotations

import atexit
import importlib
import os
import resource
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from zygo import wire
from zygo.errors import Error
from zygo.guest import isolate, process, tracebacks, tunnel
from zygo.sdk import context

if TYPE_CHECKING:
    from zygo.guest.revision import RevisionZygote
    from zygo.guest.service import Served

_PER_CONTAINER = isolate.CLONE_NEWNS | isolate.CLONE_NEWIPC | isolate.CLONE_NEWUTS


def run(zygote: RevisionZygote, message: dict[str, Any], fds: list[int]) -> int:
    """Become the container that `message` asks for and serve until told to stop. Returns the exit status.

    Descriptors: the listening socket, the control socket, stdout, stderr, then the cgroups' join files.
    """
    listener, control_fd, stdout, stderr = fds[:4]
    process.join_cgroups(fds[4:])
    control = socket.socket(fileno=control_fd)
    try:
        if zygote.sandboxed:
            own_network = message["network"] != "shared"
            isolate.unshare(_PER_CONTAINER | (isolate.CLONE_NEWNET if own_network else 0))
            isolate.build_container_root(zygote.tops, zygote.carried)
            if own_network:
                _join_network(control, message["network"])
        else:
            os.setsid()
            isolate.prctl(isolate.PR_SET_PDEATHSIG, isolate.SIGKILL)
        process.replace_stdio(stdout, stderr)
        process.reset_signals()
        os.chdir(zygote.message["cwd"])
        _limit(message["limits"])
        isolate.drop_privileges() if zygote.sandboxed else isolate.prctl(isolate.PR_SET_NO_NEW_PRIVS, 1)
        _identify(message)
        from zygo.guest import serve

        app = zygote.apps.get(message["function"])
        config = app.config if app is not None else None
        host = serve.Host(socket.socket(fileno=listener), control, message["grace"], config)
        variant = message["variant"]
        if message["park"]:
            needed = host.park(app)
            if needed is None:
                return 0
            variant = needed["variant"]
        os.environ.update(variant.get("env") or {})
        if app is None or not app.fits(variant):
            app = _application(zygote, message["function"], variant)
            host.configure(None)
        app.enter(host.run, variant)
        application = app.build()
        if app.tunnel is not None:
            host.tunnel(app.tunnel)
        else:
            host.serve(application, lifespan=app.lifespan, beside=app.beside)
        app.exit(host.run)
        atexit._run_exitfuncs()
        return tunnel.EXIT_SERVER_DIED if app.tunnel is not None and app.tunnel.died else 0
    except wire.PeerGoneError:
        return 1  # given up while it started: the server knows why, and the app's log is not for it
    except BaseException as error:
        text, file, line = tracebacks.describe(error, zygote.source)
        from zygo.guest import serve

        if isinstance(error, serve.StartupFailed):
            text = str(error)
        elif zygote.source not in text and not isinstance(error, Error):
            import traceback

            text = traceback.format_exc()
        _say_failed(control, text, file, line)
        return 1


def _say_failed(control: socket.socket, text: str, file: str | None, line: int | None) -> None:
    try:
        wire.send(control, {"type": "failed", "traceback": text[-60000:], "file": file, "line": line})
    except OSError:
        print(text, file=sys.stderr)


def _join_network(control: socket.socket, kind: str) -> None:
    """In a network namespace of our own: bring it up, and have the server connect it to the outside."""
    isolate.loopback_up()
    isolate.refuse_link_local()
    if kind == "isolated":
        wire.send(control, {"type": "network"})
        message, _ = wire.receive(control)
        if message is None:
            raise wire.PeerGoneError("the server is gone")


def _limit(limits: dict[str, int]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.get("data"):
        # Private memory that may be written; reservations that are never touched (torch, jemalloc) count as well, so
        # it is used only where no cgroup counts what is really used.
        own = _data_bytes() + limits["data"]
        resource.setrlimit(resource.RLIMIT_DATA, (own, own))
    if limits.get("processes"):
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
    if limits.get("files"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits["files"], hard), hard))


def _data_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


def _identify(message: dict[str, Any]) -> None:
    os.environ["ZYGO_CONTAINER_ID"] = os.environ["MODAL_TASK_ID"] = message["id"]
    os.environ["ZYGO_FUNCTION"] = message["function"]
    context.set_remote(True, container_id=message["id"], function=message["function"])
    # The random module, uuid and ssl reseed themselves after a fork; numpy's global generator does not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _application(zygote: RevisionZygote, name: str, variant: dict[str, Any]) -> Served:
    """An application made here: each container imports the module itself, or the zygote's does not fit this variant."""
    module = importlib.import_module(zygote.message["module"])
    zygote.name_functions(module)
    app = zygote.app(module, name, variant)
    app.prebuild()
    return app


def refuse_breakpoint(*args: Any, **kwargs: Any) -> NoReturn:
    """`breakpoint()` where there is no terminal: an error at once, instead of a request that never ends."""
    raise RuntimeError(
        "breakpoint() needs a terminal, and a container has none: print, log, or call the function with .local()"
    )
