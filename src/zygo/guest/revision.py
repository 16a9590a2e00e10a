"""The revision zygote: one app's user module, imported once in namespaces of its own, and a fork server for containers."""

from __future__ import annotations

import gc
import importlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from zygo import wire
from zygo.guest import container, fitness, isolate, process, serve, service, tracebacks, web
from zygo.guest.entry import entry_of
from zygo.guest.fork_server import ForkServer
from zygo.guest.own import is_own
from zygo.sdk import context
from zygo.sdk.app import App as SdkApp
from zygo.sdk.cls import Cls

if TYPE_CHECKING:
    from types import ModuleType

_NAMESPACES = (
    isolate.CLONE_NEWUSER | isolate.CLONE_NEWNS | isolate.CLONE_NEWPID | isolate.CLONE_NEWIPC | isolate.CLONE_NEWUTS
)


def enter(parent: ForkServer, message: dict[str, Any], fds: list[int], sandboxed: bool) -> int:
    """In a fresh child of the image zygote: become a revision zygote and serve until the server closes its control.

    The child that is returned from here (exit status) is in the sandboxed case only the one that made the namespaces:
    a process cannot enter its own new pid namespace, so the zygote is its child, and init there.
    """
    control, stdout, stderr, cgroups = fds[0], fds[1], fds[2], fds[3:]
    process.join_cgroups(cgroups)
    if sandboxed:
        uid, gid = os.getuid(), os.getgid()
        isolate.unshare(_NAMESPACES | (0 if message["network"] == "host" else isolate.CLONE_NEWNET))
        isolate.write_id_maps(uid, gid)
        pid = os.fork()
        if pid:
            pidfd = os.pidfd_open(pid)
            wire.send(parent.control, {"type": "revision", "id": message["id"]}, [pidfd])
            return 0
    else:
        isolate.prctl(isolate.PR_SET_PDEATHSIG, isolate.SIGKILL)
        wire.send(parent.control, {"type": "revision", "id": message["id"]}, [os.pidfd_open(os.getpid())])
    parent.forget_in_child()
    os.setsid()
    process.replace_stdio(stdout, stderr)
    zygote = RevisionZygote(socket.socket(fileno=control), message, sandboxed)
    if not zygote.prepare():
        return 1
    zygote.server.serve()
    return 0


class RevisionZygote:
    """Holds the user's module and forks containers of its functions."""

    def __init__(self, control: socket.socket, message: dict[str, Any], sandboxed: bool) -> None:
        self.id: str = message["id"]
        self.message = message
        self.sandboxed = sandboxed
        self.source: str = message["source"]
        self.debug: bool = message["debug"]
        self.control = control
        self.tops: list[str] = []
        self.carried: list[str] = []
        self.apps: dict[str, service.Served] = {}
        self._containers: dict[int, str] = {}
        self.server = ForkServer(control, {"start": self.start}, self._exited)

    def prepare(self) -> bool:
        """Namespaces, environment, the user's module and its web apps. Says `loaded` or `failed` on the control socket."""
        try:
            if self.sandboxed:
                self._enter_sandbox()
                self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self._set_environment()
            reply = (
                self._load() if self.message["import_in"] == "zygote" else {"modules": [], "unfit": None, "notes": []}
            )
        except BaseException as error:
            text, file, line = tracebacks.describe(error, self.source)
            wire.send(self.control, {"type": "failed", "traceback": text[-60000:], "file": file, "line": line})
            return False
        serve.take_logger()
        gc.collect()
        gc.freeze()
        wire.send(self.control, {"type": "loaded", **reply})
        return True

    def _enter_sandbox(self) -> None:
        self.tops = isolate.build_revision_root(self.message["files"])
        self.carried = isolate.carried()
        isolate.mount("proc", "/proc", "proc", isolate.MS_NOSUID | isolate.MS_NODEV | isolate.MS_NOEXEC)
        if self.message["network"] != "host":
            isolate.loopback_up()
            isolate.refuse_link_local()
        socket.sethostname(self.message["hostname"])
        isolate.know_hostname(self.message["hostname"])

    def _set_environment(self) -> None:
        context.set_remote(True, functions=[spec["name"] for spec in self.message["functions"]])
        context.set_web_urls(self.message["urls"])
        if self.message["door"]:
            context.set_server_socket(self.message["door"])
        os.environ.update(self.message["env"])
        os.umask(0o022)
        os.makedirs(self.message["cwd"], exist_ok=True)
        os.chdir(self.message["cwd"])
        sys.path.insert(0, self.source)
        sys.argv = [self.message["module"]]
        sys.breakpointhook = container.refuse_breakpoint

    def _load(self) -> dict[str, Any]:
        before = set(sys.modules)
        baseline = fitness.observe()
        forget_shadowed(self.source)
        importlib.invalidate_caches()
        notes = []
        with fitness.watching_threads() as started:
            module = importlib.import_module(self.message["module"])
            self.name_functions(module)
            for spec in self.message["functions"]:
                app = self.apps[spec["name"]] = self.app(module, spec["name"], {})
                app.prebuild()
                if isinstance(app, service.Service):
                    app.snap()
                if app.asgi is not None:
                    app.config = serve.configure(app.asgi, lifespan=False)
                notes += app.notes
        fitness.rest_log_listeners()
        fitness.rest_event_loops(baseline)
        unfit = fitness.compare(baseline, started, self.source)
        return {
            "modules": third_party(set(sys.modules) - before, self.source),
            "unfit": unfit,
            "notes": sorted(set(notes)),
        }

    def name_functions(self, module: ModuleType) -> None:
        """Let the app's functions, those of its other images too, be called from here under the name it is served as."""
        app = getattr(module, self.message["app_variable"], None)
        for function in app.owners() if isinstance(app, SdkApp) else ():
            function.serve_in(self.message["app"])

    def app(self, module: ModuleType, name: str, variant: dict[str, Any]) -> service.Served:
        """The application of the module's function or class `name`. Raises InvalidError when the module does not define it."""
        found = web.find(module, self.message["app_variable"], name)
        if isinstance(found, Cls):
            return service.Service(found, self.debug, variant)
        return service.application(entry_of(found, variant), self.debug)

    def start(self, message: dict[str, Any], fds: list[int]) -> None:
        """Fork a container. Descriptors: listener, control, stdout, stderr, cgroups..."""
        if self.sandboxed:
            isolate.unshare(isolate.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            if self.sandboxed:
                isolate.setns(self._pid_namespace, isolate.CLONE_NEWPID)
            for fd in fds:
                os.close(fd)
            self._containers[pid] = message["id"]
            self.server.children.add(pid)
            pidfd = os.pidfd_open(pid)
            wire.send(self.control, {"type": "started", "id": message["id"]}, [pidfd])
            os.close(pidfd)
            return
        code = 1
        try:
            self.server.forget_in_child()
            if self.sandboxed:
                os.close(self._pid_namespace)
            code = container.run(self, message, fds)
        except wire.PeerGoneError:
            pass  # given up while it started: the server knows why, and the app's log is not for it
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            process.flush()
            os._exit(code)

    def _exited(self, pid: int, status: int) -> None:
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        identifier = self._containers.pop(pid, None)
        if identifier is not None:
            wire.send(self.control, {"type": "exited", "id": identifier, "status": code})


def forget_shadowed(source: str) -> None:
    """A user's module wins over a preloaded one of its name."""
    for entry in os.listdir(source) if os.path.isdir(source) else []:
        name = entry[:-3] if entry.endswith(".py") else entry
        loaded = sys.modules.get(name)
        if not name.isidentifier() or name in ("zygo", "modal") or loaded is None:
            continue
        file = getattr(loaded, "__file__", None) or ""
        if not is_own(file, source) and name not in sys.builtin_module_names:
            for key in [k for k in sys.modules if k == name or k.startswith(name + ".")]:
                del sys.modules[key]


def third_party(names: set[str], source: str) -> list[str]:
    """Top-level modules among `names` that came neither from the user's files nor from the standard library."""
    found = set()
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        if "site-packages" in file and not is_own(file, source):
            found.add(name.partition(".")[0])
    return sorted(found - {"zygo", "modal"})
