"""The server's side of the image zygote, against a real one without a sandbox (the contract tests have both)."""

from __future__ import annotations

import asyncio
import json
import os
import sysconfig
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zygo
from zygo.errors import ContainerError
from zygo.runtime.zygote import ImageZygote, RevisionZygote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GUEST = Path(zygo.__file__).parent.parent
MAIN = GUEST / "zygo" / "guest" / "main.py"
PYTHON = [str(Path(sysconfig.get_path("scripts")) / "python"), "-B", str(MAIN)]
SECONDS = 60.0


class World:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = asyncio.Event()
        self.zygote = ImageZygote(self.ended.set)


@asynccontextmanager
async def running(modules: Path) -> AsyncIterator[World]:
    world = World()
    options = json.dumps({"guest": str(GUEST), "runtime": sysconfig.get_path("purelib"), "sandboxed": False})
    await world.zygote.start(
        PYTHON,
        lambda control: [str(control), options],
        {"PATH": os.environ["PATH"], "PYTHONPATH": str(modules), "PYTHONUNBUFFERED": "1"},
        lambda stream, line: world.lines.append(line),
    )
    try:
        yield world
    finally:
        await world.zygote.close()
        await world.zygote.close()
        assert not world.zygote.alive


def run(modules: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def body() -> None:
        async with asyncio.timeout(SECONDS), running(modules) as world:
            await test(world)

    asyncio.run(body())


def test_preloading_leaves_out_what_fails_and_records_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("import os\nvalue = os.environ.get('FLAVOUR')\nprint('imported')\n")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")

    async def test(world: World) -> None:
        report = await world.zygote.preload(["good", "bad", "absent", "ends"])
        assert set(report.failed) == {"bad", "absent", "ends"}
        assert "ZeroDivisionError" in report.failed["bad"]
        assert "FLAVOUR" in report.environ
        assert report.crashed_on is None
        assert world.zygote.alive

    run(tmp_path, test)


def test_a_library_that_kills_the_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("")
    (tmp_path / "deadly.py").write_text("import os\nos._exit(1)\n")

    async def test(world: World) -> None:
        report = await world.zygote.preload(["good", "deadly"])
        assert report.crashed_on == "deadly"
        await world.ended.wait()

    run(tmp_path, test)


def test_a_library_that_never_ends_is_named_when_its_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")

    async def test(world: World) -> None:
        report = await world.zygote.preload(["endless"], seconds=1.0)
        assert report.crashed_on == "endless"
        assert not world.zygote.alive

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/bin/sh", "-c", "echo no luck today >&2; exit 3"], "no luck today"),
        (["/bin/true"], "did not start"),
    ],
)
def test_a_sandbox_that_does_not_start_is_an_error_with_its_words(command: list[str], words: str) -> None:
    async def body() -> None:
        zygote = ImageZygote(lambda: None)
        with pytest.raises(ContainerError, match=words):
            await zygote.start(command, lambda control: [], dict(os.environ), lambda stream, line: None)
        with pytest.raises(ContainerError):
            await zygote.preload(["os"])
        with pytest.raises(ContainerError):
            await zygote.revision({"id": "r-1"}, [])
        await zygote.close()

    asyncio.run(body())


def test_a_revision_whose_parent_is_gone_cannot_be_started(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.zygote.close()
        revision = RevisionZygote("r-1", lambda stream, line: None, lambda: None)
        with pytest.raises(ContainerError, match="gone"):
            await revision.start(world.zygote, {})
        await revision.close()

    run(tmp_path, test)
