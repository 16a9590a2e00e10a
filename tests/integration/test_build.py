"""Images built by the real uv from real packages: what is installed is what their Python imports; what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import uvloop

from zygo.builder.build import Builder, BuiltImage
from zygo.builder.uv import find_uv, run
from zygo.errors import ImageBuildError, InvalidError
from zygo.model import ImageSpec, ImageStep
from zygo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
VERSION = "3.11"

# Records each call, then does as its name says or as UV_TEST_* tells it.
WRAPPER = """#!/bin/sh
echo "$*" >> "$UV_TEST_CALLS"
case "$* " in
  *--offline*) ;;
  *" pip install "*)
    if [ "$UV_TEST_MODE" = hang ]; then
      sleep 1000 & echo "$$ $!" > "$UV_TEST_PIDS"; echo hanging; wait
    elif [ "$UV_TEST_MODE" = unreachable ]; then
      echo "error: Request failed after 3 retries"; echo "  cause: dns error"; exit 2
    fi ;;
esac
exec "$UV_TEST_REAL" "$@"
"""


@pytest.fixture(scope="session", autouse=True)
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache for this file's tests, so that each package is fetched once."""
    os.environ.setdefault("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv-cache")))


class Bench:
    """A builder on a fresh data directory with a recorded uv; `lines` are what was said."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.lines: list[tuple[str, str]] = []
        self._calls = folder / "calls"
        self._uv = folder / "uv"
        self._uv.write_text(WRAPPER)
        self._uv.chmod(0o755)
        self.pids = folder / "pids"
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_TEST_CALLS", str(self._calls))
        monkeypatch.setenv("UV_TEST_PIDS", str(self.pids))
        monkeypatch.setenv("UV_TEST_REAL", str(find_uv()))

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def builder(self, data: Path | None = None, **settings: Any) -> Builder:
        return Builder(Settings(data_dir=data or self.data, **settings), uv=self._uv)

    def say(self, step: str, line: str) -> None:
        self.lines.append((step, line))

    async def make(
        self, builder: Builder, *steps: ImageStep, say: Callable[[str, str], None] | None = None
    ) -> BuiltImage:
        return await builder.build(
            ImageSpec(VERSION, steps=steps), on_line=say or self.say, blobs=lambda sha: self.folder / sha
        )

    def build(self, *steps: ImageStep) -> BuiltImage:
        async def main() -> BuiltImage:
            builder = self.builder()
            try:
                return await self.make(builder, *steps)
            finally:
                await builder.close()

        return loop(main())

    def staged(self) -> list[str]:
        staging = self.data / "staging"
        return os.listdir(staging) if staging.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def loop(main: Coroutine[Any, Any, T]) -> T:
    """On the server's own kind of loop, whose subprocesses differ from asyncio's."""
    return uvloop.run(main)


def pip(*packages: str, **args: Any) -> ImageStep:
    return ImageStep("pip_install", {"packages": list(packages), **args})


def ask(image: BuiltImage, code: str) -> Any:
    """What `code` prints as JSON in the image's Python."""
    done = subprocess.run([image.python, "-I", "-B", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return json.loads(done.stdout)


def imported(image: BuiltImage, module: str) -> tuple[str, str]:
    """The version and the file of `module` in the image's Python."""
    version, file = ask(image, f"import json, {module} as m; print(json.dumps([m.__version__, m.__file__]))")
    return version, file


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in `folder` except byte code, which is added later."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_installed_is_what_is_imported(bench: Bench) -> None:
    image = bench.build(pip("six==1.16.0"), pip("idna"))
    version, file = imported(image, "six")
    assert version == "1.16.0" == image.distributions["six"]
    assert Path(file) == image.site_packages / "six.py"
    version, file = imported(image, "idna")
    assert version == image.distributions["idna"]
    assert Path(file).is_relative_to(image.site_packages)
    assert ask(image, "import json, sys; print(json.dumps(sys.prefix))") == str(image.venv)
    assert ask(image, "import json, sys; print(json.dumps(sys.base_prefix))") == str(image.interpreter.prefix)
    assert image.interpreter.minor == VERSION


def test_each_step_is_told_by_line_as_the_user_wrote_it(bench: Bench) -> None:
    bench.build(pip("six==1.16.0"))
    assert ('pip_install("six==1.16.0")', " + six==1.16.0") in bench.lines
    assert not any("staging" in line for _, line in bench.lines)


def test_programs_of_a_package_run_from_where_the_image_lies(bench: Bench) -> None:
    image = bench.build(pip("idna>=3.20"), pip("pygments"))
    done = subprocess.run([image.venv / "bin" / "pygmentize", "-V"], capture_output=True, text=True, check=True)
    assert image.distributions["pygments"] in done.stdout


def test_a_second_build_starts_no_uv(bench: Bench) -> None:
    first = bench.build(pip("six"))
    calls = bench.calls
    assert len(calls) == 2
    bench.lines.clear()
    assert bench.build(pip("six")) == first
    assert bench.calls == calls
    assert bench.lines == []


def test_images_that_differ_in_env_share_their_files(bench: Bench) -> None:
    plain = bench.build(pip("six"))
    calls = bench.calls
    other = bench.build(pip("six"), ImageStep("env", {"vars": {"A": "1"}}), ImageStep("workdir", {"path": "/srv"}))
    assert bench.calls == calls
    assert other.venv == plain.venv
    assert other.hash != plain.hash
    assert (other.env, other.workdir) == ({"A": "1"}, "/srv")


def test_a_child_does_not_change_its_parent(bench: Bench) -> None:
    parent = bench.build(pip("six==1.16.0", "idna"))
    before = contents(parent.venv.parent)
    child = bench.build(pip("six==1.16.0", "idna"), pip("six==1.17.0"))
    assert contents(parent.venv.parent) == before
    assert imported(parent, "six")[0] == "1.16.0"
    assert imported(child, "six") == ("1.17.0", str(child.site_packages / "six.py"))
    assert child.distributions["six"] == "1.17.0"
    assert parent.distributions["six"] == "1.16.0"


def test_a_requirements_file(bench: Bench) -> None:
    content = "six==1.16.0\nidna  # any\n"
    image = bench.build(ImageStep("pip_install_from_requirements", {"path": "r.txt", "content": content}))
    assert image.distributions["six"] == "1.16.0"
    assert "idna" in image.distributions


def test_files_added_with_copy_lie_under_root(bench: Bench) -> None:
    (bench.folder / "aaa").write_text("hello")
    image = bench.build(
        ImageStep("add_local", {"copy": True, "files": [["/srv/data/x.txt", "aaa", 0o600]]}), pip("six")
    )
    assert image.root is not None
    assert (image.root / "srv/data/x.txt").read_text() == "hello"
    assert stat.S_IMODE((image.root / "srv/data/x.txt").stat().st_mode) == 0o644
    assert bench.build(pip("six")).root is None


def test_a_package_that_does_not_exist(bench: Bench) -> None:
    with pytest.raises(ImageBuildError) as caught:
        bench.build(pip("six"), pip("zygo-no-such-package"))
    error = caught.value
    assert error.step == 'pip_install("zygo-no-such-package")'
    assert error.command == "uv pip install -- zygo-no-such-package"
    assert "zygo-no-such-package was not found in the package registry" in error.output
    assert error.step in str(error)
    assert error.output in str(error)
    assert bench.staged() == []
    assert bench.build(pip("six")).distributions.keys() == {"six"}


def test_versions_that_exclude_each_other(bench: Bench) -> None:
    with pytest.raises(ImageBuildError, match=r"your requirements are unsatisfiable"):
        bench.build(pip("six==1.16.0", "six==1.17.0"))


def test_an_option_that_uv_does_not_know(bench: Bench) -> None:
    with pytest.raises(ImageBuildError, match="unexpected argument '--no-such-option'"):
        bench.build(pip("six", extra_options="--no-such-option"))


def test_credentials_stay_out_of_the_error(bench: Bench) -> None:
    with pytest.raises(ImageBuildError) as caught:
        bench.build(pip("six", index_url="http://user:secret@127.0.0.1:9/simple"))
    shown = [str(caught.value), caught.value.command, caught.value.step, *map(str, bench.lines)]
    assert not any("secret" in text for text in shown)


def test_two_builds_at_once_build_once(bench: Bench) -> None:
    async def main() -> None:
        builder = bench.builder()
        other: list[tuple[str, str]] = []
        images = await asyncio.gather(
            bench.make(builder, pip("six==1.16.0")),
            bench.make(builder, pip("six==1.16.0"), say=lambda step, line: other.append((step, line))),
        )
        await builder.close()
        assert images[0] == images[1]
        assert other == bench.lines != []

    loop(main())
    assert [call.split()[3] for call in bench.calls] == ["venv", "pip"]


async def _until_it_hangs(bench: Bench, builder: Builder) -> tuple[asyncio.Task[BuiltImage], list[int]]:
    """A build whose uv hangs, once it does; and its processes."""
    hangs = asyncio.Event()
    build = asyncio.create_task(bench.make(builder, pip("six"), say=lambda _, line: hangs.set()))
    waiting = asyncio.create_task(hangs.wait())
    await asyncio.wait({build, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    waiting.cancel()
    assert hangs.is_set()
    return build, [int(pid) for pid in bench.pids.read_text().split()]


@pytest.mark.parametrize("runner", [uvloop.run, asyncio.run])
def test_a_cancelled_build_leaves_nothing(bench: Bench, runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_TEST_MODE", "hang")

    async def main() -> None:
        builder = bench.builder()
        build, pids = await _until_it_hangs(bench, builder)
        assert all(alive(pid) for pid in pids)
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
        assert not any(alive(pid) for pid in pids)
        assert bench.staged() == []
        await builder.close()

    runner(main())
    monkeypatch.delenv("UV_TEST_MODE")
    assert "six" in bench.build(pip("six")).distributions


def test_a_step_that_takes_too_long_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_TEST_MODE", "hang")

    async def main() -> None:
        builder = bench.builder(build_timeout=2.0)
        with pytest.raises(ImageBuildError, match=r'pip_install\("six"\) took longer than 2 s \(build_timeout\)'):
            await bench.make(builder, pip("six"))
        assert not any(alive(int(pid)) for pid in bench.pids.read_text().split())

    loop(main())
    assert bench.staged() == []


def test_a_killed_server_takes_uv_with_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_TEST_MODE", "hang")
    program = f"""
import asyncio, sys
from pathlib import Path
from zygo.builder.build import Builder
from zygo.model import ImageSpec, ImageStep
from zygo.settings import Settings
builder = Builder(Settings(data_dir=Path({str(bench.data)!r})), uv=Path({str(bench.folder / "uv")!r}))
spec = ImageSpec({VERSION!r}, steps=(ImageStep("pip_install", {{"packages": ["six"]}}),))
asyncio.run(builder.build(spec, on_line=lambda step, line: print(line, flush=True), blobs=Path))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "hanging\n"
        uv, grandchild = (int(pid) for pid in bench.pids.read_text().split())
        descriptor = os.pidfd_open(uv)
        server.kill()
    try:
        _wait_for_end(descriptor)
        assert not alive(uv)
    finally:
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.kill(grandchild, 9)
    assert bench.staged() != []
    loop(bench.builder().sweep())
    assert bench.staged() == []


def _wait_for_end(pidfd: int) -> None:
    import select

    assert select.select([pidfd], [], [], 20)[0], "uv still runs 20 s after its server was killed"


def test_without_a_network_what_is_cached_is_enough(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.build(pip("six==1.16.0"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    bench.data = bench.folder / "elsewhere"
    image = bench.build(pip("six==1.16.0"))
    assert imported(image, "six") == ("1.16.0", str(image.site_packages / "six.py"))


def test_an_unreachable_network_is_retried_with_the_cache(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.build(pip("six==1.16.0"))
    monkeypatch.setenv("UV_TEST_MODE", "unreachable")
    bench.data = bench.folder / "elsewhere"
    image = bench.build(pip("six==1.16.0"))
    assert image.distributions["six"] == "1.16.0"
    assert any("trying with what is cached" in line for _, line in bench.lines)


def test_an_unreachable_index_is_named(bench: Bench) -> None:
    with pytest.raises(ImageBuildError) as caught:
        bench.build(pip("six", index_url="http://127.0.0.1:9/simple"))
    assert "http://127.0.0.1:9/simple/six" in caught.value.output


def test_everybody_can_read_an_image(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cache of its own, filled under the strict umask.
    monkeypatch.setenv("UV_CACHE_DIR", str(bench.folder / "cache"))
    before = os.umask(0o077)
    try:
        image = bench.build(pip("six"))
    finally:
        os.umask(before)
    top = image.venv.parent
    for path in [top, *top.rglob("*")]:
        mode = path.lstat().st_mode
        assert stat.S_ISLNK(mode) or mode & 0o044 == 0o044, path
        assert not stat.S_ISDIR(mode) or mode & 0o011 == 0o011, path


def test_byte_code_comes_after_the_build(bench: Bench) -> None:
    async def main() -> None:
        builder = bench.builder()
        image = await bench.make(builder, pip("six"))
        await builder.settled()
        assert list((image.site_packages / "__pycache__").glob("six.*.pyc"))
        await builder.close()

    loop(main())


def test_a_python_that_is_not_here(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from zygo.builder import interpreters

    missing = sorted(set(interpreters.SUPPORTED) - set(interpreters.available()))
    if not missing:
        pytest.skip("this machine has every supported Python")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")

    async def main() -> None:
        with pytest.raises(ImageBuildError) as caught:
            await bench.builder().build(ImageSpec(missing[0]), on_line=bench.say, blobs=Path)
        text = str(caught.value)
        assert f"There is no Python {missing[0]} on this machine" in text
        assert f"uv python install {missing[0]}" in text
        assert all(found.version in text for found in interpreters.available().values())

    loop(main())


def test_a_python_that_the_guest_does_not_run_on(bench: Bench) -> None:
    async def main() -> None:
        with pytest.raises(InvalidError, match=r"python_version='3.8' is not supported: images have Python 3.9 to"):
            await bench.builder().build(ImageSpec("3.8"), on_line=bench.say, blobs=Path)

    loop(main())


def test_a_very_long_line_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import sys; sys.stdout.buffer.write(b'x' * 300000 + b'\\n\\xff\\nend'); sys.exit(3)"
    outcome = loop(run([sys.executable, "-c", code], lines.append, cwd=tmp_path, limit=60))
    assert outcome.code == 3
    assert lines == ["x" * 300000, "\ufffd", "end"]
