"""Classes: their life in a container, their methods from Python and over HTTP, and a pool for each set of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import zygo
from e2e.http_kit import app_log, function_status
from zygo.errors import ContainerError, InvalidError, NotFoundError
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zygo.testing.harness import Place, Serve

PROGRAM = """
import asyncio
import os
import threading

import zygo

app = zygo.App("classes")
CONTAINER = "ZYGO_CONTAINER_ID"


class Base:
    @zygo.enter(snap=True)
    def load(self):
        self.loaded_in = os.getpid()
        self.steps = ["snap"]


@app.cls()
class Model(Base):
    @zygo.enter()
    def start(self):
        self.steps.append("enter")
        self.thread = threading.current_thread()

    @zygo.enter()
    async def connect(self):
        await asyncio.sleep(0)
        self.loop = asyncio.get_running_loop()
        self.steps.append("async enter")

    @zygo.method()
    def predict(self, x):
        same = self.thread is threading.current_thread() is threading.main_thread()
        return {"steps": self.steps, "result": self.double(x), "same thread": same, "container": os.environ[CONTAINER]}

    def double(self, x):
        return 2 * x

    @zygo.method()
    async def on_its_loop(self):
        return self.loop is asyncio.get_running_loop(), os.environ[CONTAINER]

    @zygo.method()
    def items(self, n):
        yield from range(n)

    @zygo.method()
    def both(self, x):
        return self.double(x), self.predict.local(x)["result"], self.items.is_generator

    @zygo.method()
    def fails(self):
        raise ValueError("no luck")

    @zygo.fastapi_endpoint(method="POST")
    def web(self, x: int, y: "int" = 1):
        return {"sum": x + y, "steps": self.steps, "container": os.environ[CONTAINER]}

    @zygo.asgi_app()
    def site(self):
        from fastapi import FastAPI, Request

        async def lifespan(application):
            print("site up", self.steps, flush=True)
            yield {"said": "up"}
            print("site down", flush=True)

        from contextlib import asynccontextmanager
        site = FastAPI(lifespan=asynccontextmanager(lifespan))

        @site.get("/{path:path}")
        def page(path: str, request: Request):
            return {"path": path, "said": request.state.said, "headers": dict(request.headers)}

        return site

    @zygo.exit()
    def stop(self):
        print("exit one", flush=True)
        raise RuntimeError("a failed exit is told")

    @zygo.exit()
    async def stop_too(self):
        await asyncio.sleep(0)
        print("exit two", flush=True)


@app.cls(scaledown_window=2)
class Named:
    name: str = zygo.parameter()
    count: int = zygo.parameter(default=2)
    loud: bool = zygo.parameter(default=False)
    raw: bytes = zygo.parameter(default=b"")

    @zygo.enter()
    def start(self):
        self.text = self.name * self.count + ("!" if self.loud else "") + self.raw.decode()

    @zygo.method()
    def get(self):
        return self.text, os.environ[CONTAINER], os.environ.get("EXTRA")

    @zygo.method()
    def other(self):
        return self.get.remote()

    @zygo.fastapi_endpoint()
    def page(self):
        return {"text": self.text, "container": os.environ[CONTAINER]}


@app.cls()
class Old:
    def __init__(self, size, deep=False):
        self.size = size

    @zygo.method()
    def get(self):
        return self.size


@app.cls()
class Broken:
    @zygo.enter()
    def start(self):
        raise ValueError("the weights are not there")

    @zygo.method()
    def get(self):
        return 1


@app.cls(max_containers=1)
@zygo.concurrent(max_inputs=4)
class Shared:
    @zygo.enter()
    def start(self):
        self.barrier = threading.Barrier(3, timeout=20)

    @zygo.method()
    def meet(self):
        self.barrier.wait()
        return os.environ[CONTAINER]


@app.function()
def calls_classes(x):
    return Model().predict.remote(x)["result"], Named(name="in").get.remote()[0], zygo.is_local()
"""


@pytest.fixture(scope="module")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("classes") / "classes.py"
    path.write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch, shared_place.serve(path) as running:
        patch.setenv("ZYGO_RUNTIME_DIR", str(shared_place.runtime))
        yield running
        assert running.stop() == 0
    shared_place.settle()


def made(cls: str, /, **parameters: Any) -> Any:
    return zygo.Cls.from_name("classes", cls)(**parameters)


def test_a_container_enters_once_and_then_serves_every_method(serve: Serve) -> None:
    model = made("Model")
    first = model.predict.remote(4)
    assert first["steps"] == ["snap", "enter", "async enter"]
    assert first["result"] == 8
    assert first["same thread"], "sync methods run where enter ran"
    again = model.predict.remote(5)
    assert (again["container"], again["steps"]) == (first["container"], first["steps"])
    assert model.on_its_loop.remote() == (True, first["container"]), "one container for all methods"
    assert list(model.items.remote_gen(3)) == [0, 1, 2]
    assert model.both.remote(3) == (6, 6, True)
    web = serve.post("Model.web", params={"x": 1, "y": 2}).json()
    assert web == {"sum": 3, "steps": first["steps"], "container": first["container"]}


def test_methods_are_mapped_and_raise(serve: Serve) -> None:
    model = made("Model")
    assert [each["result"] for each in model.predict.map(range(20))] == [2 * x for x in range(20)]
    with pytest.raises(ValueError, match="no luck"):
        model.fails.remote()


def test_a_web_method_has_the_name_of_its_class_in_its_hostname(serve: Serve) -> None:
    assert "classes-model-web-dev.localhost" in serve.hostname_url("Model.web")


def test_an_application_of_a_class_has_its_lifespan(serve: Serve) -> None:
    answer = serve.get("Model.site", path="/a/b", headers={"Zygo-Method": "Model.web", "X-Own": "1"}).json()
    assert (answer["path"], answer["said"], answer["headers"]["x-own"]) == ("a/b", "up", "1")
    assert "zygo-method" not in answer["headers"]
    serve.wait_for(r"site up \['snap', 'enter', 'async enter'\]", anywhere=True)


def test_each_set_of_parameters_has_containers_of_its_own(serve: Serve) -> None:
    x, y = made("Named", name="x").get.remote(), made("Named", name="y", count=3, loud=True).get.remote()
    assert (x[0], y[0]) == ("xx", "yyy!")
    assert x[1] != y[1]
    assert made("Named", name="x", count=2).get.remote() == x, "the default, said"
    assert made("Named", name="", raw=b"raw").get.remote()[0] == "raw"
    assert made("Named", name="x").other.remote()[0] == "xx", "a method sees its object's parameters"


def test_parameters_come_from_the_query(serve: Serve) -> None:
    page = serve.get("Named.page", params={"name": "ä b", "count": "1", "loud": "true"}).json()
    assert page["text"] == "ä b!"
    again = serve.get("Named.page", params={"loud": "1", "count": "1", "name": "ä b"}).json()
    assert again == page
    assert serve.get("Named.page", path="?name=x&raw=%72%61%77").json()["text"] == "xxraw"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "needs a value for its parameter 'name' (str)"),
        ("?name=x&count=many", "count='many' must be a whole number"),
        ("?name=x&loud=perhaps", "loud='perhaps' must be true or false"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_before_anything_starts(serve: Serve, query: str, text: str) -> None:
    answer = serve.get("Named.page", path=query)
    assert answer.status_code == 400
    assert text in answer.text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: made("Named").get.remote(), "needs a value for its parameter 'name'"),
        (lambda: made("Named", name=1).get.remote(), "name=1 must be of type str"),
        (lambda: made("Named", name="x", nope=1).get.remote(), "no parameter 'nope'"),
        (lambda: made("Model", nope=1).predict.remote(1), "no parameter 'nope'"),
        (lambda: made("Model").web.remote(1), "is a web function"),
        (lambda: made("Model").items.remote(1), "is a generator"),
    ],
)
def test_calls_that_cannot_be(serve: Serve, call: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        call()
    assert text in str(caught.value)


def test_a_method_that_is_not_there(serve: Serve) -> None:
    with pytest.raises(NotFoundError, match=r"no function 'Model.nope'"):
        made("Model").nope.remote()


def test_options_make_another_pool(serve: Serve) -> None:
    named = zygo.Cls.from_name("classes", "Named")
    plain = named(name="o").get.remote()
    other = named.with_options(env={"EXTRA": "set"}, timeout=9)(name="o").get.remote()
    assert other[0] == plain[0]
    assert (other[2], plain[2]) == ("set", None)
    assert other[1] != plain[1]


def test_an_object_has_an_autoscaler(serve: Serve) -> None:
    settings = made("Named", name="a").update_autoscaler(max_containers=3, min_containers=1)
    assert (settings["min_containers"], settings["max_containers"]) == (1, 3)
    made("Named", name="a").update_autoscaler(min_containers=0)
    with pytest.raises(InvalidError, match=r"update_autoscaler\(\) of the object"):
        made("Model").predict.update_autoscaler(max_containers=3)


def test_an_old_constructor(serve: Serve) -> None:
    import importlib.util
    import sys

    # The handle with the class's definition, as the program itself has it.
    spec = importlib.util.spec_from_file_location("classes_here", serve.folder / "classes.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["classes_here"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Old.service.serve_in("classes")
    assert module.Old(7).get.remote() == 7
    assert module.Old([8], deep=True).get.remote() == [8]


def test_an_enter_method_that_fails_is_told(serve: Serve) -> None:
    with pytest.raises(ContainerError, match="the weights are not there"):
        made("Broken").get.remote()
    serve.wait_for("ValueError: the weights are not there", anywhere=True)


def test_concurrency_is_that_of_the_class(serve: Serve) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as threads:
        containers = list(threads.map(lambda _: made("Shared").meet.remote(), range(3)))
    assert len(set(containers)) == 1


def test_classes_are_called_from_containers(serve: Serve) -> None:
    assert zygo.Function.from_name("classes", "calls_classes").remote(4) == (8, "inin", False)


def test_pools_without_use_go_away(serve: Serve, shared_place: Place) -> None:
    made("Named", name="gone").get.remote()
    names = [f["name"] for app in shared_place.status()["apps"] for f in app["functions"]]  # type: ignore[index]
    assert any(name.startswith("Named@") for name in names)
    until(lambda: sum(_containers(shared_place)) == 0, 20, "every container of Named to end")


def _containers(place: Place) -> list[int]:
    status = place.status()
    assert status is not None
    return [f["containers"] for app in status["apps"] for f in app["functions"] if f["name"].startswith("Named")]


def test_variants_survive_a_save_and_exit_methods_run(serve: Serve, shared_place: Place) -> None:
    made("Model").predict.remote(1)
    before = made("Named", name="kept").get.remote()
    serve.save(
        "classes.py", PROGRAM.replace("return 2 * x", "return 3 * x").replace("self.name * self", "'new' * self")
    )
    serve.wait_for("Updated classes in")
    assert made("Model").predict.remote(1)["result"] == 3
    after = made("Named", name="kept").get.remote()
    assert (before[0], after[0]) == ("keptkept", "newnew")
    until(lambda: "exit two" in app_log(shared_place, "classes"), 20, "the exit methods of the old container")
    log = app_log(shared_place, "classes")
    assert "exit one" in log
    assert "RuntimeError: a failed exit is told" in log
    assert "site down" in log
    assert function_status(shared_place, "Model")["containers"] >= 1
