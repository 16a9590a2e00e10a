"""What every engine promises (engine/base.py), held against the one of this machine, sandboxed and not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zygo.builder import interpreters
from zygo.builder.build import Builder
from zygo.builder.uv import find_uv
from zygo.engine import machine as machines
from zygo.engine.base import RevisionPlan
from zygo.engine.images import guest_package
from zygo.engine.local import LocalEngine
from zygo.errors import ContainerError
from zygo.model import FunctionSpec, ImageSpec, WebSpec
from zygo.runtime.cgroup2 import Cgroups2, find_hierarchy
from zygo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from zygo.engine.base import Container, Engine
    from zygo.runtime.limits import Cgroups

SECONDS = 60.0

MODULE = """
import os, time
import zygo

app = zygo.App("contract")


@app.function()
@zygo.asgi_app()
def echo():
    async def answer(scope, receive, send):
        assert scope["type"] == "http"
        if scope["path"] == "/crash":
            os._exit(7)
        body = f"{os.environ['ZYGO_CONTAINER_ID']} {os.environ.get('COLOUR')}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    return answer


@app.function()
@zygo.asgi_app()
def broken():
    raise LookupError("no such table")


@app.function()
@zygo.asgi_app()
def stubborn():
    import signal
    async def answer(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            time.sleep(600)
    return answer
"""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="zg"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root, ignore_errors=True)


class World:
    """An engine, and a revision of MODULE on it."""

    def __init__(self, engine: LocalEngine, plan: RevisionPlan) -> None:
        self.engine: Engine = engine
        self.local = engine
        self.plan = plan
        self.lines: list[tuple[str, str]] = []

    def log(self, function: str, container: str, stream: str, line: str) -> None:
        self.lines.append((stream, line))


def spec(name: str) -> FunctionSpec:
    return FunctionSpec(name=name, module="contract", qualname=name, image=ImageSpec("3.11"), web=WebSpec("asgi_app"))


@asynccontextmanager
async def world(data: Path, sandbox: str, text: str = MODULE, groups: Cgroups | None = None) -> AsyncIterator[World]:
    settings = Settings(data_dir=data / "data", runtime_dir=data / "run")
    guest = guest_package(settings.data_dir, "contract")
    machine = await machines.inspect(
        settings.data_dir,
        guest,
        sandbox=sandbox,
        wanted_network="isolated",
        max_containers=0,
        name=f"contract-{sandbox}",
    )
    if sandbox == "auto" and not machine.sandboxed:
        pytest.skip("containers cannot be sandboxed on this machine")
    builder = Builder(settings, uv=find_uv())
    interpreter = interpreters.find("3.11")
    runtime = await builder.runtime_layer(interpreter)
    number = len(list((data / "data").glob("revisions/*")))
    files = data / "data" / "revisions" / f"r-{number}"
    (files / "root").mkdir(parents=True)
    (files / "root" / "contract.py").write_text(text)
    machines.open_to_sandbox(files.parent, is_root=machine.is_root)
    for path in (files, files / "root"):
        path.chmod(0o755)
    prefix = interpreter.prefix
    plan = RevisionPlan(
        id=files.name,
        app="contract",
        image=f"image-{sandbox}",
        python=interpreter.path,
        binds=() if prefix.is_relative_to("/usr") else (prefix,),
        path_tail=(guest, runtime),
        files=files,
        module="contract",
        app_variable="app",
        functions=tuple(spec(name) for name in ("echo", "broken", "stubborn")),
        env={"COLOUR": "green"},
    )
    if groups is not None:
        machine.cgroups = groups
    engine = LocalEngine(machine, settings.runtime_dir / "c", grace=5.0)
    try:
        yield World(engine, plan)
    finally:
        await engine.close()
        await engine.close()
        await builder.close()
        assert list((settings.runtime_dir / "c").iterdir()) == []


def run(
    data: Path,
    sandbox: str,
    test: Callable[[World], Awaitable[None]],
    text: str = MODULE,
    groups: Cgroups | None = None,
) -> None:
    async def body() -> None:
        before = open_files()
        async with asyncio.timeout(SECONDS), world(data, sandbox, text, groups) as found:
            await test(found)
        deadline = asyncio.get_running_loop().time() + 5.0
        loop = asyncio.get_running_loop()
        for _ in iter(lambda: loop.time() < deadline and len(open_files()) > len(before), False):
            await asyncio.sleep(0)  # pipes are read to their end, which the kernel tells when it likes
        left = {path for fd, path in open_files().items() if before.get(fd) != path}
        assert len(open_files()) <= len(before), left

    asyncio.run(body())


def open_files() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


async def ask(container: Container, path: str = "/") -> bytes:
    """The body of one request over the container's socket; b"" when it closed without an answer."""
    reader, writer = await asyncio.open_unix_connection(container.socket_path)
    writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
    try:
        text = await reader.read()
    except ConnectionResetError:
        text = b""
    writer.close()
    return text.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n0\r\n\r\n").partition(b"\r\n")[2]


modes = pytest.mark.parametrize("sandbox", ["auto", "off"])


@modes
def test_a_started_container_becomes_ready_answers_and_stops(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        container = await revision.start("echo")
        assert container.function == "echo"
        assert container.reason() == ""
        await container.ready
        assert await ask(container) == f"{container.id} green".encode()
        assert await container.stop(5.0) == 0
        assert await container.stop(5.0) == 0, "a second time is fine"
        assert container.exited.done()
        assert container.reason()
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(container.socket_path)
        await revision.retire()
        await revision.retire()

    run(data, sandbox, test)


@modes
def test_containers_are_apart(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        containers = [await revision.start("echo") for _ in range(5)]
        await asyncio.gather(*(c.ready for c in containers))
        said = await asyncio.gather(*(ask(c) for c in containers))
        assert said == [f"{c.id} green".encode() for c in containers]
        assert len({c.id for c in containers}) == 5
        assert await ask(containers[0], "/crash") == b""
        assert await containers[0].exited == 7
        assert containers[0].reason() == "exit status 7"
        assert await ask(containers[1]) == said[1]

    run(data, sandbox, test)


@modes
def test_a_factory_that_fails_fails_ready_with_its_traceback(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        container = await revision.start("broken")
        with pytest.raises(ContainerError) as caught:
            await container.ready
        assert "LookupError: no such table" in caught.value.traceback
        assert await container.exited != 0

    run(data, sandbox, test)


@modes
def test_what_does_not_stop_is_killed_when_its_grace_is_over(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        container = await revision.start("stubborn")
        await container.ready
        assert await container.stop(0.2) == -signal.SIGKILL
        assert "SIGKILL" in container.reason()

    run(data, sandbox, test)


@modes
def test_stopping_one_that_is_not_ready_yet(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        container = await revision.start("echo")
        # With more grace than the test has: what never served has nothing to finish.
        await container.stop(10 * SECONDS)
        assert container.exited.done()
        assert container.ready.done()

    run(data, sandbox, test)


@modes
def test_a_module_that_fails_fails_prepare_with_its_traceback(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        with pytest.raises(ContainerError) as caught:
            await found.engine.prepare(found.plan, found.log)
        assert "ZeroDivisionError" in caught.value.traceback
        assert "contract.py" in caught.value.traceback
        assert "importlib" not in caught.value.traceback

    run(data, sandbox, test, "import os\n1 / 0\n")


@modes
def test_a_zygote_that_died_is_made_again_by_the_next_start(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        first = await revision.start("echo")
        await first.ready
        for host in list(found.local.hosts._hosts.values()):
            assert host.zygote._process is not None
            host.zygote._process.kill()
        await first.exited
        assert "SIGKILL" in first.reason()
        while True:  # the zygote's end is seen a moment after the container's
            try:
                second = await revision.start("echo")
                break
            except ContainerError:
                await asyncio.sleep(0)
        await second.ready
        assert await ask(second) == f"{second.id} green".encode()

    run(data, sandbox, test)


@modes
def test_close_kills_everything(data: Path, sandbox: str) -> None:
    async def test(found: World) -> None:
        revision = await found.engine.prepare(found.plan, found.log)
        containers = [await revision.start(name) for name in ("echo", "stubborn")]
        await asyncio.gather(*(c.ready for c in containers))
        await found.engine.close()
        assert all(c.exited.done() for c in containers)
        with pytest.raises(ContainerError):
            await revision.start("echo")

    run(data, sandbox, test)


def test_a_socket_path_is_short_enough_for_the_kernel(data: Path) -> None:
    assert len(str(data / "run" / "c" / "c-ffffffff-ffffff.s")) < 108
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind("/tmp/" + "x" * 108)
    assert sys.platform == "linux"


def test_version_two_groups_hold_zygotes_and_containers_and_are_gone_after_them(data: Path) -> None:
    """The structure, on the kernel's hierarchy; the controllers may all be bound to version 1 here."""
    hierarchy = find_hierarchy()
    root = (hierarchy.mount if hierarchy else data) / f"zygo-test-{uuid.uuid4().hex[:8]}"
    try:
        if hierarchy is None:
            pytest.skip("version 2 control groups are not mounted here")
        root.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")

    async def test(world: World) -> None:
        revision = await world.engine.prepare(world.plan, world.log)
        container = await revision.start("echo")
        await container.ready
        assert await ask(container)
        members = {path.name: (path / "cgroup.procs").read_text().split() for path in root.iterdir() if path.is_dir()}
        assert {name for name in members if not name.startswith("c-")} == {"image-1", f"{world.plan.id}-1"}
        assert members[container.id]
        assert all(members.values())
        assert sum(map(len, members.values())) == len({pid for pids in members.values() for pid in pids})
        await container.stop(1.0)
        assert not (root / container.id).exists()

    run(data, "auto", test, groups=Cgroups2([root], []))
    assert not root.exists()
