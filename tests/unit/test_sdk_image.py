"""Image: immutable, read when resolved, refused by name where it cannot be built here."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import InvalidError, UnsupportedError
from zygo.model import ImageStep
from zygo.sdk import context, image_later
from zygo.sdk import image as image_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

slim = zygo.Image.debian_slim()


def steps(image: zygo.Image) -> tuple[ImageStep, ...]:
    return image.resolve().spec.steps


@pytest.fixture
def remote() -> Iterator[None]:
    yield
    context.set_remote(False)
    image_module.forget_imports()


def test_the_default_python_is_this_one() -> None:
    assert slim.resolve().spec.python_version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert zygo.Image.debian_slim("3.9").resolve().spec.python_version == "3.9"
    assert zygo.Image.debian_slim(python_version="3.12.4").resolve().spec.python_version == "3.12"


@pytest.mark.parametrize("version", ["3.8", "3.15", "2.7", "python3", 3.11, "", "3"])
def test_a_python_that_cannot_be(version: Any) -> None:
    with pytest.raises(InvalidError, match=r"3\.9 to 3\.14"):
        zygo.Image.debian_slim(version)


def test_steps_make_new_images() -> None:
    first = slim.pip_install("a")
    second = first.pip_install("b")
    assert steps(slim) == ()
    assert [s.args["packages"] for s in steps(first)] == [["a"]]
    assert [s.args["packages"] for s in steps(second)] == [["a"], ["b"]]


def test_pip_install() -> None:
    image = slim.pip_install(
        "fastapi[standard]", ["numpy>=1", " x "], index_url="https://i", extra_index_url="https://e", pre=True,
        find_links="https://f", extra_options="--no-deps",
    )  # fmt: skip
    assert steps(image) == (
        ImageStep(
            "pip_install",
            {
                "packages": ["fastapi[standard]", "numpy>=1", "x"],
                "find_links": "https://f",
                "index_url": "https://i",
                "extra_index_url": "https://e",
                "pre": True,
                "extra_options": "--no-deps",
            },
        ),
    )
    assert slim.uv_pip_install("a").resolve().spec.steps[0].kind == "uv_pip_install"
    assert slim.pip_install() is slim


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("-r requirements.txt", "extra_options"),
        ("./lib", "add_local_python_source"),
        ("", "name of a package"),
        (3, "3"),
    ],
)
def test_what_is_no_package(package: Any, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        slim.pip_install([package])


def test_env_and_workdir() -> None:
    image = slim.env({"A": "1"}).workdir("/srv")
    assert steps(image) == (ImageStep("env", {"vars": {"A": "1"}}), ImageStep("workdir", {"path": "/srv"}))
    with pytest.raises(InvalidError, match="/root/srv"):
        slim.workdir("srv")
    with pytest.raises(InvalidError, match="int"):
        slim.env({"A": 1})  # type: ignore[dict-item]


def test_requirements_are_read_when_resolved(tmp_path: Path) -> None:
    base, more = tmp_path / "requirements.txt", tmp_path / "deps" / "more.txt"
    image = slim.pip_install_from_requirements(base, pre=True)
    more.parent.mkdir()
    base.write_text("numpy==1  # pinned\n-r deps/more.txt\n")
    more.write_text("pandas\n")
    resolved = image.resolve()
    (step,) = resolved.spec.steps
    assert step.kind == "pip_install_from_requirements"
    assert step.args["content"] == "numpy==1  # pinned\npandas\n"
    assert step.args["pre"] is True
    assert all(any(root.wants(str(path)) for root in resolved.watch) for path in (base, more))


def test_uv_pip_install_takes_requirements(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("pandas\n")
    (step,) = steps(slim.uv_pip_install("numpy", requirements=[str(tmp_path / "r.txt")]))
    assert step.args["packages"] == ["numpy"]
    assert step.args["requirements"] == [{"path": str(tmp_path / "r.txt"), "content": "pandas\n"}]
    with pytest.raises(InvalidError, match="list"):
        slim.uv_pip_install(requirements="r.txt")


@pytest.mark.parametrize(
    ("line", "text"),
    [("-e .", "line 2 uses -e"), ("-c pins.txt", "line 2 uses -c"), ("./lib", "a path of this machine"),
     ("x @ file:///lib", "a path of this machine"), ("-r requirements.txt", "includes"), ("-r no.txt", "no.txt")],
)  # fmt: skip
def test_requirements_that_only_this_machine_has(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"numpy\n{line}\n")
    with pytest.raises(InvalidError, match=text):
        slim.pip_install_from_requirements(tmp_path / "requirements.txt").resolve()


def test_a_file_is_attached_or_built_in(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_bytes(b"echo")
    path.chmod(0o700)
    attached = slim.add_local_file(path, "/data/").resolve()
    assert [(s.local_path, s.remote_path, s.mode) for s in attached.attached] == [(str(path), "/data/run.sh", 0o755)]
    assert attached.build_sources == ()
    assert attached.spec.steps == ()
    built = slim.add_local_file(path, "/data/x", copy=True).pip_install("a").resolve()
    assert built.attached == ()
    assert built.spec.steps[0] == ImageStep(
        "add_local", {"copy": True, "files": [["/data/x", hashlib.sha256(b"echo").hexdigest(), 0o755]]}
    )
    assert [s.remote_path for s in built.build_sources] == ["/data/x"]


def test_no_build_step_after_an_attached_file(tmp_path: Path) -> None:
    image = slim.add_local_dir(tmp_path, "/data")
    builds: list[Callable[[], Any]] = [
        lambda: image.pip_install("a"),
        lambda: image.env({"A": "1"}),
        lambda: image.workdir("/srv"),
        lambda: image.add_local_dir(tmp_path, "/more", copy=True),
    ]
    for build in builds:
        with pytest.raises(InvalidError, match="copy=True"):
            build()
    image.add_local_dir(tmp_path, "/more").resolve()


def test_a_directory_without_what_is_ignored_and_without_junk(tmp_path: Path) -> None:
    for name in (
        "a.csv",
        "b.txt",
        "deep/c.csv",
        "deep/d.txt",
        ".git/x",
        "__pycache__/y.pyc",
        "venv/pyvenv.cfg",
        ".hidden",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)

    def found(**given: Any) -> list[str]:
        return [s.remote_path for s in slim.add_local_dir(tmp_path, "/data", **given).resolve().attached]

    assert found() == ["/data/.hidden", "/data/a.csv", "/data/b.txt", "/data/deep/c.csv", "/data/deep/d.txt"]
    assert found(ignore=["**/*.txt", ".hidden"]) == ["/data/a.csv", "/data/deep/c.csv"]
    assert found(ignore=["deep", "!deep/c.csv", ".*"]) == ["/data/a.csv", "/data/b.txt", "/data/deep/c.csv"]
    assert found(ignore=~zygo.FilePatternMatcher("**/*.csv")) == ["/data/a.csv", "/data/deep/c.csv"]
    assert found(ignore=lambda path: path.name != "b.txt") == ["/data/b.txt"]
    with pytest.raises(InvalidError, match="list"):
        found(ignore="*.txt")


def test_python_source_goes_where_it_is_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("h2pkg/__init__.py", "h2pkg/sub/deep.py", "h2pkg/data.txt", "h2mod.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    attached = slim.add_local_python_source("h2pkg", "h2mod").resolve().attached
    assert [s.remote_path for s in attached] == ["/root/h2pkg/__init__.py", "/root/h2pkg/sub/deep.py", "/root/h2mod.py"]
    everything = slim.add_local_python_source("h2pkg", ignore=[]).resolve().attached
    assert "/root/h2pkg/data.txt" in [s.remote_path for s in everything]
    with pytest.raises(InvalidError, match="h2none"):
        slim.add_local_python_source("h2none").resolve()
    with pytest.raises(InvalidError, match=r"h2pkg/"):
        slim.add_local_python_source("h2pkg/")


@pytest.mark.parametrize("place", ["data", "/", "/proc/x", "/dev", "/sys/a", "/a/../.."])
def test_places_that_cannot_be(tmp_path: Path, place: str) -> None:
    with pytest.raises(InvalidError, match="remote_path"):
        slim.add_local_dir(tmp_path, place)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="does not exist"):
        slim.add_local_file(tmp_path / "no", "/data/no").resolve()
    with pytest.raises(InvalidError, match="use add_local_dir"):
        slim.add_local_file(tmp_path, "/data/no").resolve()
    with pytest.raises(InvalidError, match="does not exist"):
        slim.add_local_dir(tmp_path / "no", "/data").resolve()


@pytest.mark.parametrize("name", sorted(image_later.REFUSED))
def test_steps_that_come_later_name_themselves_and_an_alternative(name: str) -> None:
    for owner in (zygo.Image, slim):
        with pytest.raises(UnsupportedError, match=rf"mage\.{name}\(\) is not supported yet\. \w+"):
            getattr(owner, name)("anything")


def test_build_parameters() -> None:
    image = slim.pip_install("a", gpu="H100", force_build=True)
    assert len(image.pip_install("b").notices()) == 2
    with pytest.raises(UnsupportedError, match="secrets="):
        slim.pip_install("a", secrets=[zygo.Secret.from_dict({})])
    with pytest.raises(InvalidError, match="colour"):
        slim.pip_install("a", colour=1)


def test_pipe() -> None:
    assert steps(slim.pipe(lambda image, name: image.pip_install(name), "a"))[0].args["packages"] == ["a"]


def test_imports_are_optional_here() -> None:
    image_module.forget_imports()
    with slim.imports():
        import h2_not_there  # type: ignore[import-not-found] # noqa: F401
    assert image_module.missing_imports() == ["h2_not_there"]
    with pytest.raises(ValueError, match="other"), slim.imports():
        raise ValueError("other errors are errors")


def test_imports_must_work_in_a_container(remote: None) -> None:
    context.set_remote(True)
    with pytest.raises(ModuleNotFoundError), slim.imports():
        import h2_not_there  # noqa: F401


def handler() -> None:
    pass


def test_imports_of_another_functions_image_are_not_this_containers_business(remote: None) -> None:
    context.set_remote(True, functions=["mine"])
    base = zygo.Image.debian_slim()
    other, mine = base.pip_install("torch"), base.pip_install("numpy")
    app = zygo.App()
    with other.imports():
        import h2_not_there
    app.function(name="theirs", image=other.env({"A": "1"}))(handler)
    app.function(name="mine", image=mine)(handler)
    with pytest.raises(ModuleNotFoundError), mine.imports():
        import h2_not_there  # noqa: F401


def test_an_import_that_failed_before_its_function_was_known(remote: None) -> None:
    context.set_remote(True, functions=["mine"])
    image = zygo.Image.debian_slim()
    with image.imports():
        import h2_not_there  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        zygo.App().function(name="mine", image=image.env({"A": "1"}))(handler)


def test_in_a_container_no_file_is_looked_for(remote: None) -> None:
    context.set_remote(True)
    image = slim.add_local_file("/nowhere/x", "/data/x").add_local_python_source("h2none")
    zygo.App(image=image, secrets=[zygo.Secret.from_dotenv("/nowhere/.env")]).function()(handler)
