"""What is sent is what was evaluated, whenever a file is written in between. Real files, real evaluations; what falls between
which two steps is decided by the test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from zygo import errors, loader
from zygo.cli import live as live_module
from zygo.cli.live import ROUNDS, Live
from zygo.program import sources
from zygo.program.sources import Digests, is_being_written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from zygo.loader import Evaluated
    from zygo.program.sources import Upload

T = TypeVar("T")


def program(function: str) -> str:
    head = "import zygo\n\napp = zygo.App('live')\n\n\n@app.function()\n@zygo.fastapi_endpoint()\n"
    return f"{head}def {function}():\n    return 1\n"


class Desk:
    """A program, its Live, and what happens around each evaluation."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.evaluations = 0
        self.before: dict[int, Callable[[], object]] = {}
        self.after: dict[int, Callable[[], object]] = {}
        """By the number of the evaluation, from 1."""

    @contextlib.asynccontextmanager
    async def living(self, *, reload: bool = True) -> AsyncIterator[Live]:
        """With a first state that was evaluated already; then the count begins."""
        live = Live(loader.parse_ref(str(self.file)), None, reload=reload)
        real = live._loader.evaluate

        async def evaluate() -> Evaluated:
            self.evaluations += 1
            number = self.evaluations
            if number in self.before:
                self.before[number]()
            try:
                return await real()
            finally:
                if number in self.after:
                    self.after[number]()

        try:
            await live.evaluate()
            live._loader.evaluate = evaluate  # type: ignore[method-assign]
            yield live
        finally:
            await live.close()

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def empty(self) -> None:
        os.truncate(self.file, 0)

    def is_sent_as_evaluated(self, upload: Upload, function: str) -> None:
        """The upload is of one state: its functions, and the content that is there."""
        assert [each.name for each in upload.app.functions] == [function]
        [source] = upload.app.files
        assert source.sha256 == hashlib.sha256(program(function).encode()).hexdigest()
        assert self.file.read_text() == program(function)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path / "program.py")
    desk.write(program("first"))
    return desk


def run(body: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(body(), 60)

    return asyncio.run(bounded())


def listing(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object], times: int = 1
) -> None:
    """Let these happen around the first `times` listings of the files' contents."""
    real, left = sources.collect, [times]

    def collect(*arguments: Any) -> Upload:
        if not left[0]:
            return real(*arguments)
        left[0] -= 1
        before()
        try:
            return real(*arguments)
        finally:
            after()

    monkeypatch.setattr(live_module, "collect", collect)


@pytest.mark.parametrize("reload", [True, False])
def test_executed_with_content_and_listed_empty(desk: Desk, monkeypatch: pytest.MonkeyPatch, reload: bool) -> None:
    async def body() -> None:
        async with desk.living(reload=reload) as live:
            desk.write(program("second"))
            listing(monkeypatch, desk.empty, lambda: desk.write(program("second")))
            desk.is_sent_as_evaluated(await live.evaluate(), "second")
            assert desk.evaluations == 2

    run(body)


def test_listed_empty_more_often_than_there_are_rounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of saves goes on for longer than the evaluations of a small program take."""
    monkeypatch.setattr(live_module, "HALF_SAVES_SECONDS", 50.0)

    async def body() -> None:
        async with desk.living() as live:
            desk.write(program("second"))
            listing(monkeypatch, desk.empty, lambda: desk.write(program("second")), ROUNDS + 2)
            desk.is_sent_as_evaluated(await live.evaluate(), "second")
            assert desk.evaluations == ROUNDS + 3

    run(body)


def test_executed_empty_and_listed_with_content(desk: Desk) -> None:
    async def body() -> None:
        async with desk.living() as live:
            desk.write(program("second"))
            desk.before[1], desk.after[1] = desk.empty, lambda: desk.write(program("second"))
            desk.is_sent_as_evaluated(await live.evaluate(), "second")
            assert desk.evaluations == 2

    run(body)


def test_executed_in_a_state_that_was_there_between_two_equal_ones(desk: Desk) -> None:
    async def body() -> None:
        async with desk.living() as live:
            desk.before[1] = lambda: desk.write(program("other"))
            desk.after[1] = lambda: desk.write(program("first"))
            desk.is_sent_as_evaluated(await live.evaluate(), "first")
            assert desk.evaluations == 2

    run(body)


def test_executed_in_one_state_and_listed_in_the_next(desk: Desk) -> None:
    async def body() -> None:
        async with desk.living() as live:
            desk.after[1] = lambda: desk.write(program("second"))
            desk.is_sent_as_evaluated(await live.evaluate(), "second")

    run(body)


def test_a_module_that_is_imported_is_held_to_the_same(desk: Desk, tmp_path: Path) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text("NAME = 'one'\n")
    desk.write("from helper import NAME\n" + program("f").replace("'live'", "NAME"))

    async def body() -> None:
        async with desk.living() as live:
            desk.before[1] = lambda: helper.write_text("NAME = 'two'\n")
            desk.after[1] = lambda: helper.write_text("NAME = 'three'\n")
            upload = await live.evaluate()
            assert upload.app.name == "three"
            assert hashlib.sha256(b"NAME = 'three'\n").hexdigest() in {file.sha256 for file in upload.app.files}

    run(body)


def test_an_emptied_file_is_not_executed_until_it_has_content_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "REWRITE_SECONDS", 60.0)
    looks = 0
    real = Digests.seen

    def seen(self: Digests, path: str) -> Any:
        nonlocal looks
        looks += path == str(desk.file)
        if looks == 10:
            desk.write(program("second"))
        return real(self, path)

    async def body() -> None:
        async with desk.living() as live:
            desk.empty()
            monkeypatch.setattr(Digests, "seen", seen)
            desk.is_sent_as_evaluated(await live.evaluate(), "second")
            assert desk.evaluations == 1

    run(body)


def test_a_file_that_stays_empty_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "REWRITE_SECONDS", 0.1)

    async def body() -> None:
        async with desk.living() as live:
            desk.empty()
            with pytest.raises(errors.AppReferenceError, match="There is no App"):
                await live.evaluate()
            desk.write(program("second"))
            await live.changed()
            desk.is_sent_as_evaluated(await live.evaluate(), "second")

    run(body)


def test_half_a_file_is_not_told_while_somebody_writes_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "REWRITE_SECONDS", 60.0)
    if not leases(desk.file):
        pytest.skip("this file system does not tell who writes a file")
    whole = program("second")

    async def body() -> None:
        async with desk.living() as live:
            with desk.file.open("w") as file:
                file.write(whole[:-40])
                file.flush()
                asked = 0

                def being_written(path: str) -> bool:
                    nonlocal asked
                    asked += 1
                    answer = is_being_written(path)
                    if asked == 3:
                        file.write(whole[-40:])
                        file.close()
                    return answer

                monkeypatch.setattr(live_module, "is_being_written", being_written)
                await live.changed()
                desk.is_sent_as_evaluated(await live.evaluate(), "second")
                assert asked >= 3

    run(body)


def leases(path: Path) -> bool:
    with path.open("r+"):
        return is_being_written(str(path))


def test_who_writes_a_file_is_known(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    if not leases(path):
        pytest.skip("this file system does not tell who writes a file")
    assert not is_being_written(str(path))
    with path.open():
        assert not is_being_written(str(path))
    assert not is_being_written(str(tmp_path / "absent"))
    assert not is_being_written(str(tmp_path))


def test_a_program_that_writes_a_file_of_its_own_comes_to_an_end(desk: Desk, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    desk.write(
        f"import pathlib\n\npathlib.Path({str(data)!r}).write_text('[]')\n"
        + program("f").replace(
            "App('live')", f"App('live', image=zygo.Image.debian_slim().add_local_file({str(data)!r}, '/data'))"
        )
    )

    async def body() -> None:
        async with desk.living() as live:
            upload = await live.evaluate()
            assert len(upload.app.files) == 2
            assert desk.evaluations == 2

    run(body)


def test_what_changed_is_not_lost_when_the_wait_for_it_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zygo.cli.watch.RECONCILE_SECONDS", 600.0)

    async def body() -> None:
        async with desk.living() as live:
            reads, go = asyncio.Event(), threading.Event()
            real, loop = live._differing, asyncio.get_running_loop()

            def differing(paths: Any) -> set[str]:
                loop.call_soon_threadsafe(reads.set)
                go.wait(30)
                return real(paths)

            live._differing = differing  # type: ignore[method-assign]
            waiting = asyncio.create_task(live.changed())
            desk.write(program("second"))
            await reads.wait()
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            go.set()
            await live.changed()
            desk.is_sent_as_evaluated(await live.evaluate(), "second")

    run(body)
