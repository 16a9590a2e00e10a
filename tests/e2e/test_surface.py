"""The surface of programs: names and parameters, what is shipped, what is refused and with what words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place


def test_annotations_may_be_postponed(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        from __future__ import annotations

        from typing import Annotated, Optional

        import zygo
        from fastapi import Depends, Form, Request
        from pydantic import BaseModel

        app = zygo.App("postponed")

        class Thing(BaseModel):
            name: str
            parent: Optional[Thing] = None

        def current(request: Request) -> str:
            return request.headers["x-user"]

        @app.function()
        @zygo.fastapi_endpoint(method="POST")
        def make(thing: Thing, user: Annotated[str, Depends(current)], times: int = 1) -> Thing:
            return Thing(name=thing.name * times + user, parent=thing)

        @app.function()
        @zygo.fastapi_endpoint(method="POST")
        async def form(name: Annotated[str, Form()]) -> dict[str, str]:
            return {"name": name}
    """)
    with place.serve(path) as serve:
        answer = serve.post("make", json={"name": "a"}, params={"times": 2}, headers={"X-User": "!"})
        assert answer.json() == {"name": "aa!", "parent": {"name": "a", "parent": None}}
        assert serve.post("form", data={"name": "x"}).json() == {"name": "x"}


def test_old_names_work_and_warn(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import modal

        app = modal.App("old")

        @app.function(keep_warm=1, concurrency_limit=2, container_idle_timeout=30, allow_concurrent_inputs=4)
        @modal.web_endpoint(method="POST")
        def double(item: dict):
            return item["x"] * 2
    """)
    with place.serve(path) as serve:
        assert serve.post("double", json={"x": 21}).json() == 42
        assert serve.get("double").status_code == 405
        for old, new in (
            ("keep_warm=", "min_containers=1"),
            ("concurrency_limit=", "max_containers=2"),
            ("container_idle_timeout=", "scaledown_window=30"),
            ("allow_concurrent_inputs=", r"concurrent\(max_inputs=4\)"),
            ("@web_endpoint", "@fastapi_endpoint"),
        ):
            assert serve.seen(rf"Warning: .*{old}.*{new}"), serve.text


def test_programs_written_for_modal(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import modal
        import modal.exception
        from modal import App, Image, Secret, asgi_app, concurrent, fastapi_endpoint
        from modal.exception import InvalidError, NotFoundError

        app = App(name="for-modal", image=Image.debian_slim(), secrets=[Secret.from_dict({"WORD": "hush"})])

        @app.function(timeout=60)
        @fastapi_endpoint()
        def word(fail: bool = False):
            import os

            try:
                if fail:
                    raise modal.exception.NotFoundError("nothing")
            except NotFoundError as error:
                return {"caught": str(error), "is": isinstance(error, modal.Error)}
            return {"word": os.environ["WORD"], "local": modal.is_local(), "remote": os.environ["MODAL_IS_REMOTE"]}

        @app.function()
        @concurrent(max_inputs=10)
        @asgi_app()
        def web():
            from fastapi import FastAPI
            from modal.image import Image as Same

            app = FastAPI()

            @app.get("/same")
            def same():
                import zygo

                return [Same is zygo.Image, modal.App is zygo.App, issubclass(InvalidError, modal.Error)]

            return app
    """)
    with place.serve(path) as serve:
        assert serve.get("word").json() == {"word": "hush", "local": False, "remote": "1"}
        assert serve.get("word", params={"fail": "true"}).json() == {"caught": "nothing", "is": True}
        assert serve.get("web", path="/same").json() == [True, True, True]


def test_without_concurrent_each_request_has_a_container_of_its_own(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import os
        import time

        import zygo

        app = zygo.App("alone")

        @app.function()
        @zygo.fastapi_endpoint()
        def meet(wait: str = ""):
            if wait:
                print("in", wait)
                deadline = time.monotonic() + 0.5
                while time.monotonic() < deadline:
                    pass
            return os.environ["ZYGO_APP"], open("/proc/sys/kernel/random/boot_id").read(), id(app), os.urandom(4).hex()
    """)
    with place.serve(path) as serve:
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(serve.get, "meet", params={"wait": name}) for name in "abc"]
            for _ in range(3):
                serve.wait_for(r"\| in [abc]")
            assert all(answer.result().status_code == 200 for answer in answers)
        status = place.status()
        assert status is not None
        assert status["apps"][0]["functions"][0]["containers"] == 3


WRONG = {
    "order": (
        """
        @zygo.fastapi_endpoint()
        @app.function()
        def f(x: int):
            return x
        """,
        ["stands above @app.function()", "@app.function()\n    @zygo.fastapi_endpoint()\n    def f(x: int):"],
    ),
    "no parentheses": (
        """
        @app.function
        @zygo.fastapi_endpoint
        def f():
            return 1
        """,
        ["lacks its parentheses", "@app.function()\n    @zygo.fastapi_endpoint()\n    def f():"],
    ),
    "class": (
        """
        @app.function()
        @zygo.fastapi_endpoint()
        class Square:
            pass
        """,
        ["is on the class 'Square'", "def square():"],
    ),
    "generator": (
        """
        @app.function()
        @zygo.fastapi_endpoint()
        def f(n: int):
            yield n
        """,
        ["is a generator", "StreamingResponse(stream())"],
    ),
    "not global": (
        """
        def make():
            @app.function()
            @zygo.fastapi_endpoint()
            def f():
                return 1

        make()
        """,
        ["is defined inside 'make'", "@app.function()\n    @zygo.fastapi_endpoint()\n    def f():"],
    ),
    "async factory": (
        """
        @app.function()
        @zygo.asgi_app()
        async def f():
            return None
        """,
        ["is async", "@app.function()\n    @zygo.asgi_app()\n    def f():"],
    ),
    "concurrency": (
        """
        @app.function()
        @zygo.concurrent(target_inputs=5)
        @zygo.fastapi_endpoint()
        def f():
            return 1
        """,
        ["needs max_inputs=", "@zygo.concurrent(max_inputs=5"],
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_decorators_are_told_with_the_corrected_code(
    shared_place: Place, write: Callable[..., Path], kind: str
) -> None:
    code, expected = WRONG[kind]
    indented = "import zygo\n\napp = zygo.App('wrong')\n" + code.replace("\n        ", "\n")
    path = write(indented, "wrong.py")
    ended = shared_place.zygo("serve", "wrong.py", cwd=path.parent)
    assert ended.code == 1
    assert "wrong.py, line " in ended.text
    for text in expected:
        assert text in ended.text
    assert "Traceback" not in ended.text


def test_lifespan_ends_with_the_app(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import contextlib

        import zygo

        app = zygo.App("life")

        @app.function(scaledown_window=1)
        @zygo.asgi_app()
        def web():
            from fastapi import FastAPI

            @contextlib.asynccontextmanager
            async def lifespan(app):
                yield
                print("lifespan ends")

            return FastAPI(lifespan=lifespan)
    """)
    with place.serve(path) as serve:
        assert serve.get("web").status_code == 404
        serve.wait_for(r"web +\| lifespan ends")  # idle for a second


def test_an_app_without_a_name_has_its_files(place: Place, write: Callable[..., Path]) -> None:
    path = write(
        """
        import zygo

        app = zygo.App()

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return "ok"
        """,
        "My_tools.py",
    )
    with place.serve(path) as serve:
        assert serve.get("f").json() == "ok"
        assert "//local--my-tools-f-dev.localhost:" in serve.hostname_url("f")
        assert serve.seen(r"Created My_tools in ")
    with place.serve(path, "--name", "other") as serve:
        assert "//local--other-f-dev.localhost:" in serve.hostname_url("f")


def test_an_object_of_a_file_and_a_module_of_a_package(place: Place, write: Callable[..., Path]) -> None:
    two = """
        import zygo

        first = zygo.App("first")
        second = zygo.App("second")

        @first.function()
        @zygo.fastapi_endpoint()
        def f():
            return "first"

        @second.function()
        @zygo.fastapi_endpoint()
        def f():
            return "second"
    """
    path = write(two, "two.py")
    with place.serve(f"{path.name}::second", cwd=path.parent) as serve:
        assert serve.get("f").json() == "second"
    write("", "shop/__init__.py")
    write("PRICE = 7\n", "shop/prices.py")
    write("GREETING = 'hi'\n", "shop/texts/greeting.py")
    write(
        """
        import zygo

        from . import prices
        from .texts.greeting import GREETING

        app = zygo.App("shop")

        @app.function()
        @zygo.fastapi_endpoint()
        def price():
            return [prices.PRICE, GREETING, __name__]
        """,
        "shop/web.py",
    )
    with place.serve("shop.web", "-m", cwd=path.parent) as serve:
        assert serve.get("price").json() == [7, "hi", "shop.web"]


def test_secrets_environment_and_where_code_runs(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import os

        import zygo

        def local_value():
            return "only here" if zygo.is_local() else "not here"

        secret = zygo.Secret.from_dict({"TOKEN": "hush" if zygo.is_local() else "wrong", "BOTH": "secret"})
        late = zygo.Secret.from_dict({"BOTH": "later"})
        image = zygo.Image.debian_slim().env({"FROM_IMAGE": "i", "BOTH": "image"})
        app = zygo.App("where", image=image, secrets=[secret])
        WHERE = local_value()

        @app.function(secrets=[late], env={"ENV": "e"})
        @zygo.fastapi_endpoint()
        def all():
            names = ("TOKEN", "BOTH", "ENV", "FROM_IMAGE", "MODAL_IS_REMOTE", "ZYGO_DATA_DIR", "HOST_ONLY")
            return {**{name: os.environ.get(name) for name in names}, "where": WHERE, "cwd": os.getcwd(),
                    "local": zygo.is_local(), "file": __file__, "name": __name__}

        @app.function()
        @zygo.fastapi_endpoint()
        def other():
            return {name: os.environ.get(name) for name in ("TOKEN", "BOTH", "ENV", "FROM_IMAGE")}
    """)
    with place.serve(path, env={"HOST_ONLY": "leak"}) as serve:
        assert serve.get("all").json() == {
            **{"TOKEN": "hush", "BOTH": "later", "ENV": "e", "FROM_IMAGE": "i"},
            **{"MODAL_IS_REMOTE": "1", "ZYGO_DATA_DIR": None, "HOST_ONLY": None, "where": "not here"},
            **{"cwd": "/root", "local": False, "file": "/root/program.py", "name": "program"},
        }
        assert serve.get("other").json() == {"TOKEN": "hush", "BOTH": "secret", "ENV": None, "FROM_IMAGE": "i"}
        assert "hush" not in serve.text
        assert "hush" not in place.server_log()


def test_secrets_from_dotenv_and_the_environment(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import os

        import zygo

        app = zygo.App("dotenv", secrets=[zygo.Secret.from_dotenv(), zygo.Secret.from_local_environ(["HOST_TOKEN"])])

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return [os.environ["FROM_FILE"], os.environ["HOST_TOKEN"], os.path.exists("/root/.env")]
    """)
    write("FROM_FILE='a b'\n", ".env")
    with place.serve(path, env={"HOST_TOKEN": "t"}) as serve:
        assert serve.get("f").json() == ["a b", "t", False]


def test_image_imports_are_only_needed_in_the_image(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        image = zygo.Image.debian_slim().pip_install("colorama==0.4.6")
        app = zygo.App("image-imports", image=image)

        with image.imports():
            import colorama

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return colorama.__version__
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == "0.4.6"


def test_a_missing_import_says_where_it_is_missing_and_the_mend(
    shared_place: Place, write: Callable[..., Path]
) -> None:
    path = write("""
        import zygo
        import colorama

        app = zygo.App("top", image=zygo.Image.debian_slim().pip_install("colorama"))

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return colorama.__version__
    """)
    ended = shared_place.zygo("serve", "program.py", cwd=path.parent)
    assert ended.code == 1
    assert "module 'colorama' is missing on this machine, present in the image" in ended.text
    assert "with image.imports():\n        import colorama" in ended.text
    assert "program.py" in ended.text


def test_source_that_is_not_wanted_stays_here(place: Place, write: Callable[..., Path]) -> None:
    write("VALUE = 1\n", "helper.py")
    path = write("""
        import os

        import zygo

        app = zygo.App("bare", include_source=False, image=zygo.Image.debian_slim().add_local_python_source("program"))

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return sorted(name for name in os.listdir("/root") if name.endswith(".py"))

        if zygo.is_local():
            import helper
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == ["program.py"]


def test_several_functions_and_several_apps_at_once(place: Place, write: Callable[..., Path]) -> None:
    def program(name: str) -> str:
        return f"""
            import zygo

            app = zygo.App("{name}")

            @app.function()
            @zygo.fastapi_endpoint()
            def one():
                return "{name} one"

            @app.function()
            @zygo.fastapi_endpoint(method="POST")
            def two(n: int):
                return "{name} two " + str(n) + one.local()

            @app.function()
            def helper():
                return 1
        """

    first, second = write(program("first"), "a/app.py"), write(program("second"), "b/app.py")
    with place.serve(first) as a, place.serve(second) as b:
        urls = {a.url("one"), a.url("two"), b.url("one"), b.url("two")}
        assert len(urls) == 4
        assert (a.get("one").json(), b.get("one").json()) == ("first one", "second one")
        assert a.post("two", params={"n": 2}).json() == "first two 2first one"
        assert a.stop() == 0
        assert b.post("two", params={"n": 3}).json() == "second two 3second one"
        assert not a.seen("second (one|two)|b/app")
        assert not b.seen("first (one|two)|a/app")


def test_what_this_machine_cannot_honour_is_a_warning(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("placed")

        @app.function(gpu="H100", region="eu-north", cloud="aws", cpu=1.0, memory=256, ephemeral_disk=10_000,
                      nonpreemptible=True)
        @zygo.fastapi_endpoint()
        def f():
            return "served"
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == "served"
        for name in ("gpu='H100'", "region='eu-north'", "cloud='aws'", "ephemeral_disk=10000"):
            assert serve.seen(rf"^Warning: .*{name}"), f"{name} in:\n{serve.text}"


REFUSED = {
    "volumes": "@app.function(volumes={'/data': zygo.Volume})",
    "enable_memory_snapshot": "@app.function(enable_memory_snapshot=True)",
    "schedule": "@app.function(schedule='daily')",
    "retries": "@app.function(retries=3)",
    "proxy": "@app.function(proxy='p')",
    "timeout": "@app.function(timeout=0)",
    "min_containers=5 is above max_containers=2": "@app.function(min_containers=5, max_containers=2)",
    "Did you mean max_containers=": "@app.function(max_container=2)",
    "must be True or False": "@app.function()\n@zygo.fastapi_endpoint(requires_proxy_auth='no')",
    "label": "@app.function()\n@zygo.fastapi_endpoint(label='No Spaces')",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_by_name(shared_place: Place, write: Callable[..., Path], what: str) -> None:
    decorators = REFUSED[what]
    if "fastapi_endpoint" not in decorators:
        decorators += "\n@zygo.fastapi_endpoint()"
    path = write(f"import zygo\n\napp = zygo.App('refused')\n\n{decorators}\ndef f():\n    return 1\n")
    ended = shared_place.zygo("serve", "program.py", cwd=path.parent)
    assert ended.code == 1
    assert what in ended.text
    assert "program.py, line 5" in ended.text or "program.py, line 6" in ended.text
    assert "Traceback" not in ended.text


@pytest.mark.parametrize(
    ("reference", "code", "text"),
    [
        ("nothing.py", 2, "nothing.py"),
        ("program.py::nothing", 2, "nothing"),
        ("program.py:app", 2, "program.py::app"),
        ("program", 2, "program.py"),
        ("empty.py", 2, "empty.py"),
    ],
)
def test_a_wrong_reference_is_corrected(
    shared_place: Place, write: Callable[..., Path], reference: str, code: int, text: str
) -> None:
    path = write("import zygo\napp = zygo.App('there')\n")
    write("x = 1\n", "empty.py")
    ended = shared_place.zygo("serve", reference, cwd=path.parent)
    assert (ended.code, "Traceback" in ended.text) == (code, False), ended.text
    assert text in ended.text


def test_a_failing_program_shows_only_its_own_frames(shared_place: Place, write: Callable[..., Path]) -> None:
    write("def load():\n    return {}['missing']\n", "settings_of_mine.py")
    path = write("""
        import zygo
        from settings_of_mine import load

        app = zygo.App("fails")
        VALUE = load()
    """)
    ended = shared_place.zygo("serve", "program.py", cwd=path.parent)
    assert ended.code == 1
    assert "settings_of_mine.py, line 2: KeyError: 'missing'" in ended.text
    assert 'program.py", line 5, in <module>' in ended.text
    assert "zygo/" not in ended.text.replace(str(path.parent), "")
    assert "importlib" not in ended.text


@pytest.mark.parametrize("name", ["with-dash.py", "ordner mit leer/grüße.py", "numpy_like.py"])
def test_files_of_any_name(place: Place, write: Callable[..., Path], name: str) -> None:
    path = write(
        """
        import zygo

        app = zygo.App("any-name")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return __name__

        if __name__ == "__main__":
            raise SystemExit("not as a program")
        """,
        name,
    )
    with place.serve(name, cwd=path.parents[name.count("/")]) as serve:
        assert serve.get("f").json() == path.stem


def test_a_module_that_shadows_a_library_wins(place: Place, write: Callable[..., Path]) -> None:
    write("VALUE = 'mine'\n", "h11.py")
    write("VALUE = 'mine, too'\n", "colorsys.py")
    path = write("""
        import zygo

        import colorsys
        import h11

        app = zygo.App("shadow")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return [h11.VALUE, colorsys.VALUE]
    """)
    with place.serve(path) as serve:
        assert serve.get("f").json() == ["mine", "mine, too"]


def test_state_that_modules_make_is_there_in_every_container(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import concurrent.futures
        import random
        import sqlite3
        import threading
        import uuid

        import zygo

        app = zygo.App("state")
        CACHE = {"made": "at import"}
        LOCK = threading.Lock()
        LOCAL = threading.local()

        @app.function(max_containers=3)
        @zygo.fastapi_endpoint()
        def f():
            with LOCK:
                CACHE["count"] = CACHE.get("count", 0) + 1
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                numbers = list(pool.map(lambda x: x * x, range(3)))
            rows = sqlite3.connect(":memory:").execute("select 1 + 1").fetchone()
            return {**CACHE, "numbers": numbers, "rows": rows, "random": random.random(), "uuid": uuid.uuid4().hex}
    """)
    with place.serve(path) as serve:
        with ThreadPoolExecutor(3) as pool:
            answers = [answer.json() for answer in pool.map(lambda _: serve.get("f"), range(12))]
        assert all(answer["made"] == "at import" and answer["numbers"] == [0, 1, 4] for answer in answers)
        # Forked containers do not repeat each other's random numbers.
        assert len({answer["random"] for answer in answers}) == 12
        assert len({answer["uuid"] for answer in answers}) == 12
