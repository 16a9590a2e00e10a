"""Images: what they install is what functions import, on every Python of this machine; files; failures; sharing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zygo.builder import interpreters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

PYTHONS = sorted(interpreters.available(), key=lambda version: int(version.split(".")[1]))

ON_EVERY_PYTHON = """
    from __future__ import annotations

    import sys
    from dataclasses import dataclass
    from typing import List, Optional

    import zygo
    from zygo.errors import NotFoundError

    image = zygo.Image.debian_slim(python_version="VERSION").pip_install("colorama==0.4.6")
    app = zygo.App("on-VERSION", image=image)

    with image.imports():
        import colorama

    @app.function()
    @zygo.fastapi_endpoint(path="/add/{first}")
    def add(first: int, second: Optional[int] = None, more: str = "") -> dict:
        return {"sum": first + (second or 0), "python": "%d.%d" % sys.version_info[:2],
                "colorama": [colorama.__version__, colorama.__file__], "prefix": sys.prefix}

    @app.function()
    @zygo.asgi_app()
    def web():
        from fastapi import FastAPI, Form, HTTPException, WebSocket
        from fastapi.responses import StreamingResponse

        app = FastAPI()

        @app.post("/form")
        async def form(name: str = Form()):
            return name

        @app.get("/stream")
        async def stream():
            async def pieces():
                for i in range(3):
                    yield str(i)
            return StreamingResponse(pieces())

        @app.get("/fail")
        def fail():
            print("failing", file=sys.stderr)
            raise RuntimeError("on purpose")

        return app
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_the_guest_runs_on_every_python_of_this_machine(place: Place, write: Callable[..., Path], version: str) -> None:
    with place.serve(write(ON_EVERY_PYTHON.replace("VERSION", version))) as serve:
        answer = serve.get("add", path="/add/40?second=2").json()
        assert (answer["sum"], answer["python"], answer["colorama"][0]) == (42, version, "0.4.6")
        assert answer["colorama"][1].startswith(f"{place.data}/images/")
        assert answer["prefix"].startswith(f"{place.data}/images/")
        assert serve.post("web", path="/form", data={"name": "Ada"}).json() == "Ada"
        assert serve.get("web", path="/stream").text == "012"
        assert serve.get("web", path="/fail").status_code == 500
        serve.wait_for(r"web +\| failing")
        serve.wait_for("RuntimeError: on purpose")
        assert serve.get("add", path="/add/x").status_code == 422


def test_each_function_has_its_own_image(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        def with_version(version):
            return zygo.Image.debian_slim().uv_pip_install(f"colorama=={version}").env({"WANTED": version})

        app = zygo.App("two-images", image=with_version("0.4.5"))

        def found():
            import os

            import colorama

            return [colorama.__version__, colorama.__file__, os.environ["WANTED"]]

        @app.function()
        @zygo.fastapi_endpoint()
        def old():
            return found()

        @app.function(image=with_version("0.4.6"))
        @zygo.fastapi_endpoint()
        def new():
            return found()
    """)
    with place.serve(path) as serve:
        old, new = serve.get("old").json(), serve.get("new").json()
        assert (old[0], old[2], new[0], new[2]) == ("0.4.5", "0.4.5", "0.4.6", "0.4.6")
        assert old[1] != new[1]
        assert old[1].startswith(f"{place.data}/images/")


def test_an_image_without_fastapi_serves_and_says_with_which_version(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("none")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            import fastapi

            return [fastapi.__version__, fastapi.__file__]
    """)
    with place.serve(path) as serve:
        version, file = serve.get("f").json()
        assert file.startswith(f"{place.data}/runtime/")
        assert serve.seen(rf"The image has no FastAPI; zygo's own {version} is used.*fastapi\[standard\]=={version}")


def test_the_images_own_fastapi_wins(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("own", image=zygo.Image.debian_slim().pip_install("fastapi==0.115.6"))

        @app.function()
        @zygo.fastapi_endpoint()
        def f(x: int):
            import fastapi

            return [fastapi.__version__, fastapi.__file__]
    """)
    with place.serve(path) as serve:
        version, file = serve.get("f", params={"x": 1}).json()
        assert version == "0.115.6"
        assert file.startswith(f"{place.data}/images/")
        assert not serve.seen("has no FastAPI")


def test_a_package_that_does_not_exist_is_told_in_the_resolvers_words(
    shared_place: Place, write: Callable[..., Path]
) -> None:
    path = write("""
        import zygo

        image = zygo.Image.debian_slim().pip_install("colorama==99.99")
        app = zygo.App("no-package", image=image)

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return 1
    """)
    ended = shared_place.zygo("serve", "program.py", cwd=path.parent)
    assert ended.code == 1
    assert "pip_install" in ended.text
    assert "no version of colorama==99.99" in ended.text
    assert "Traceback" not in ended.text
    shared_place.settle()


def test_a_failed_build_leaves_the_live_version_untouched(place: Place, write: Callable[..., Path]) -> None:
    def program(package: str, number: int) -> str:
        return f"""
import zygo

app = zygo.App("rebuilt", image=zygo.Image.debian_slim().pip_install("{package}"))

@app.function()
@zygo.fastapi_endpoint()
def f():
    import colorama

    return [{number}, colorama.__version__]
"""

    with place.serve(write(program("colorama==0.4.5", 1))) as serve:
        assert serve.get("f").json() == [1, "0.4.5"]
        serve.save("program.py", program("colorama==99.99", 2))
        serve.wait_for("no version of colorama==99.99")
        serve.wait_for("The old code keeps answering")
        assert serve.get("f").json() == [1, "0.4.5"]
        serve.save("program.py", program("colorama==0.4.6", 3))
        serve.wait_for("Updated rebuilt in")
        assert serve.get("f").json() == [3, "0.4.6"]


def test_local_files_workdir_and_environment(place: Place, write: Callable[..., Path]) -> None:
    write("some text\n", "data/words.txt")
    write("nested\n", "assets/deep/file.txt")
    write("left out\n", "assets/deep/file.log")
    write("VALUE = 'from a module'\n", "elsewhere/helper_module.py")
    write("VALUE = 'from a package'\n", "elsewhere/helper_package/part.py")
    write("", "elsewhere/helper_package/__init__.py")
    path = write("""
        import sys

        import zygo

        if zygo.is_local():
            sys.path.append(__file__.rsplit("/", 1)[0] + "/elsewhere")

        image = (
            zygo.Image.debian_slim()
            .env({"A": "1", "B": "two words"})
            .workdir("/srv/app")
            .add_local_file("data/words.txt", "/srv/words.txt", copy=True)
            .add_local_dir("assets", "/assets", ignore=["**/*.log"])
            .add_local_file("data/words.txt", "/srv/app/again.txt")
            .add_local_python_source("helper_module", "helper_package")
        )
        app = zygo.App("files", image=image)

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            import os

            import helper_module
            from helper_package import part

            return {
                "copied": open("/srv/words.txt").read(), "here": open("again.txt").read(), "cwd": os.getcwd(),
                "assets": sorted(os.path.join(d, f) for d, _, files in os.walk("/assets") for f in files),
                "modules": [helper_module.VALUE, helper_module.__file__, part.VALUE], "env": [os.environ["A"],
                os.environ["B"]],
            }

        @app.function()
        @zygo.fastapi_endpoint()
        def change():
            # What a container writes is its own, and gone with it.
            for path in ("assets/deep/file.txt", "assets/deep/new", "srv/words.txt", "root/new", "tmp/new", "srv/new"):
                with open("/" + path, "w") as file:
                    file.write("changed")
            return open("/assets/deep/file.txt").read()
    """)
    expected = {
        **{"copied": "some text\n", "here": "some text\n", "cwd": "/srv/app", "env": ["1", "two words"]},
        "assets": ["/assets/deep/file.txt"],
        "modules": ["from a module", "/root/helper_module.py", "from a package"],
    }
    with place.serve(path) as serve:
        assert serve.get("f").json() == expected
        assert serve.get("change").json() == "changed"
        assert serve.get("f").json() == expected
    home = path.parent
    assert (home / "assets/deep/file.txt").read_text() == "nested\n"
    assert (home / "data/words.txt").read_text() == "some text\n"
    assert not list(home.rglob("new"))


def test_an_image_is_built_once_for_all_apps_that_have_it(place: Place, write: Callable[..., Path]) -> None:
    def program(name: str) -> str:
        return f"""
            import zygo

            image = zygo.Image.debian_slim().pip_install("iniconfig==2.0.0").env({{"NAME": "same"}})
            app = zygo.App("{name}", image=image)

            @app.function()
            @zygo.fastapi_endpoint()
            def f():
                import iniconfig

                return iniconfig.__file__
        """

    with place.serve(write(program("builds"), "a/one.py")) as first:
        file = first.get("f").json()
        assert first.seen("iniconfig==2.0.0"), first.text
        with place.serve(write(program("reuses"), "b/two.py")) as second:
            assert second.get("f").json() == file
            assert not second.seen("iniconfig"), second.text


def test_what_is_in_a_requirements_file_is_installed(place: Place, write: Callable[..., Path]) -> None:
    write("colorama==0.4.5  # pinned\n-r more.txt\n", "requirements.txt")
    write("iniconfig==2.0.0\n", "more.txt")
    path = write("""
        import zygo

        image = zygo.Image.debian_slim().pip_install_from_requirements("requirements.txt")
        app = zygo.App("from-file", image=image)

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            from importlib.metadata import version

            return [version("colorama"), version("iniconfig")]
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == ["0.4.5", "2.0.0"]
        serve.save("requirements.txt", "colorama==0.4.6\n-r more.txt\n")
        serve.wait_for("Updated from-file in")
        assert serve.get("f").json() == ["0.4.6", "2.0.0"]
