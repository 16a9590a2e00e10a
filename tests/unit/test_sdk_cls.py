"""Classes of an app: what they record, what they do in this process, and how wrong uses are refused."""

from __future__ import annotations

import asyncio
import importlib.util
import pickle
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import ExecutionError, InvalidError
from zygo.model import ParameterSpec, WebSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

app = zygo.App("classes")


class Base:
    @zygo.enter()
    def first(self) -> None:
        self.log = ["base"]

    @zygo.enter()
    def replaced(self) -> None:
        raise AssertionError("the newest definition counts")

    @zygo.method()
    def inherited(self) -> str:
        return "inherited"


@app.cls(cpu=1, timeout=30)
@zygo.concurrent(max_inputs=10)
class Model(Base):
    name: str = zygo.parameter()
    count: int = zygo.parameter(default=2)
    raw: bytes = zygo.parameter(default=b"x")
    hidden: bool = zygo.parameter(default=True, init=False)

    @zygo.enter(snap=True)
    def snap(self) -> None:
        self.snapped = True

    @zygo.enter()
    async def replaced(self) -> None:
        await asyncio.sleep(0)
        self.log.append("async")

    @zygo.method()
    def predict(self, x: int) -> list[Any]:
        return [self.name * self.count, x, self.log, self.snapped, self.helper(), self.inherited.local()]

    @zygo.method()
    async def predict_async(self, x: int) -> int:
        return x + len(self.log)

    @zygo.method()
    def items(self, n: int) -> Iterator[int]:
        yield from range(n)

    @zygo.fastapi_endpoint(method="POST")
    def web(self, x: int) -> int:
        return x

    def helper(self) -> Any:
        return self.inherited()

    @zygo.exit()
    def stop(self) -> None: ...


Handle: Any = Model
"""What it is; mypy takes no notice of a class's decorators."""


@pytest.fixture
def refusal(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Execute a program as a module of its own and return the message it is refused with."""

    def run(program: str) -> str:
        path = tmp_path / "program.py"
        path.write_text("import zygo\napp = zygo.App()\n" + textwrap.dedent(program))
        spec = importlib.util.spec_from_file_location("program", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["program"] = module = importlib.util.module_from_spec(spec)
        with pytest.raises(InvalidError) as caught:
            spec.loader.exec_module(module)
        return str(caught.value)

    yield run
    sys.modules.pop("program", None)


def specs() -> dict[str, Any]:
    return {spec.name: spec for spec in app.specs()}


def test_a_class_is_one_record_and_each_method_another() -> None:
    found = specs()
    own = found["Model"]
    assert own.is_class
    assert own.lasting_exit
    assert own.needs_values
    assert (own.timeout, own.policy.max_inputs, own.resources.cpu_request) == (30.0, 10, 1.0)
    assert own.parameters == (
        ParameterSpec("name", "str"),
        ParameterSpec("count", "int", required=False, default=2),
        ParameterSpec("raw", "bytes", required=False, default="eA=="),
        ParameterSpec("hidden", "bool", required=False, default=True, init=False),
    )
    methods = {name.partition(".")[2]: spec for name, spec in found.items() if spec.owner == "Model"}
    assert set(methods) == {"inherited", "predict", "predict_async", "items", "web"}
    assert methods["items"].is_generator
    assert methods["predict_async"].is_async
    assert not methods["predict"].is_generator


def test_a_web_method_has_a_sample_without_self_and_with_the_parameters() -> None:
    web = specs()["Model.web"].web
    assert web == WebSpec("fastapi_endpoint", "POST", sample="?name=x&x=1")
    assert app.registered_web_endpoints == ["Model.web"]


def test_methods_run_here_after_the_enter_methods_which_run_once() -> None:
    model: Any = Handle(name="ab", count=3)
    expected = ["ababab", 1, ["base", "async"], True, "inherited", "inherited"]
    assert model.predict.local(1) == expected
    assert model.predict.local(1) == expected
    assert asyncio.run(model.predict_async.local(1)) == 3
    assert list(model.items.local(3)) == [0, 1, 2]
    assert (model.name, model.raw, model.hidden) == ("ab", b"x", True)
    assert model.helper() == "inherited"


def test_an_async_method_enters_on_its_own_loop() -> None:
    model: Any = Handle(name="x")
    assert asyncio.run(model.predict_async.local(1)) == 3


def test_handles_know_what_tells_their_containers_apart() -> None:
    assert Handle(name="a").predict.variant == {"parameters": {"name": "a"}}
    assert Handle(name="a", raw=b"yz").predict.variant == {"parameters": {"name": "a", "raw": "eXo="}}
    other = Handle.with_options(timeout=7, cpu=2).with_concurrency(max_inputs=3)
    assert other(name="a").predict.variant == {
        "options": {
            "resources": {"cpu_request": 2.0, "cpu_limit": None},
            "timeout": 7.0,
            "policy": {"max_inputs": 3, "target_inputs": 3},
        },
        "parameters": {"name": "a"},
    }
    assert Handle.variant is None, "with_options gives another handle"


def test_handles_are_sent_by_name() -> None:
    model: Any = Handle(name="a")
    with pytest.raises(ExecutionError, match=r"Cls|not served from this process"):
        pickle.dumps(model.predict)
    named = zygo.Cls.from_name("other", "Model")
    method = pickle.loads(pickle.dumps(named(name="b").predict))
    assert (method.app_name, method.name, method.variant) == ("other", "Model.predict", {"parameters": {"name": "b"}})
    assert repr(pickle.loads(pickle.dumps(named))) == "Cls.from_name('other', 'Model')"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Handle(), "needs a value for name. Write Model(name=...)"),
        (lambda: Handle("a"), "takes its parameters by name only"),
        (lambda: Handle(name=1), "name=1 is of type int, and the parameter is a str"),
        (lambda: Handle(name="a", count=True), "count=True is of type bool"),
        (lambda: Handle(name="a", hidden=False), "no parameter 'hidden'"),
        (lambda: Handle(name="a", colour=1), "no parameter 'colour'. It has: name: str, count: int, raw: bytes"),
        (lambda: Handle.predict, "Write Model().predict"),
        (lambda: Handle(name="a").predict(1), "Use .remote(...), or .local(...)"),
        (lambda: Handle(name="a").web.remote(1), "is a web function"),
        (lambda: Handle(name="a").items.remote(1), "is a generator"),
        (lambda: Handle.with_options(colour=1), "no parameter 'colour'"),
        (lambda: Handle.with_options(4), "only takes keyword arguments"),
        (lambda: Handle.with_concurrency(target_inputs=4), "max_inputs=None"),
        (lambda: Handle.with_batching(max_batch_size=4, wait_ms=1), "has no @batched method"),
        (lambda: zygo.Cls.from_name("a", "B.c"), "takes the app's name and the class's"),
        (lambda: zygo.Function.from_name("a", "B.c"), r"Use zygo.Cls.from_name('a', 'B')().c"),
    ],
)
def test_wrong_calls(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        call()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("p = zygo.parameter()", "has no type. Write: p: str = zygo.parameter(...)"),
        ("p: float = zygo.parameter()", "is a float, and it can be str, int, bool or bytes"),
        ("p: int = zygo.parameter(default='x')", "p='x' is of type str, and the parameter is a int"),
        ("p: int = zygo.parameter(init=False)", "has init=False and no default"),
        ("p: int = zygo.parameter()\n    def __init__(self): ...", "a method with @zygo.enter()"),
        ("@zygo.enter()\n    def go(self, x): ...", "@zygo.enter()\n    def go(self):"),
        ("@zygo.exit()\n    def go(self):\n        yield", "is a generator"),
        ("@zygo.enter\n    def go(self): ...", "lacks its parentheses"),
        ("@zygo.method()\n    @zygo.fastapi_endpoint()\n    def go(self): ...", "a web function is called at its URL"),
        ("@zygo.enter()\n    @zygo.method()\n    def go(self): ...", "at once"),
        (
            "@zygo.concurrent(max_inputs=2)\n    @zygo.method()\n    def go(self): ...",
            "@app.cls()\n    @zygo.concurrent",
        ),
        ("@zygo.concurrent(max_inputs=2)\n    def go(self): ...", "@app.cls()\n    @zygo.concurrent"),
        ("@zygo.asgi_app()\n    def go(self, x): ...", "@zygo.asgi_app()\n    def go(self):"),
        ("@zygo.asgi_app()\n    async def go(self): ...", "@zygo.asgi_app()\n    def go(self):"),
        ("@zygo.method()\n    @staticmethod\n    def go(): ...", "static or class method"),
        ("@zygo.method(is_generator=True)\n    def go(self): ...", "is_generator=True is not what it is"),
        (
            "@zygo.batched(max_batch_size=2, wait_ms=1)\n    def a(self, xs): ...\n"
            "    @zygo.method()\n    def b(self): ...",
            "it has to be the only one",
        ),
        (
            "@zygo.web_server(8000)\n    def a(self): ...\n    @zygo.method()\n    def b(self): ...",
            "goes to the server's port",
        ),
    ],
)
def test_classes_that_cannot_work(refusal: Callable[[str], str], body: str, text: str) -> None:
    assert text in refusal(f"@app.cls()\nclass A:\n    {body}\n")


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("@app.cls\nclass A: ...", "@app.cls()\n    class A:"),
        ("@app.cls()\ndef f(x): ...", "@app.function()\n    def f(x):"),
        ("@app.function()\nclass A: ...", "@app.cls()\n    class A:"),
        ("@app.cls()\n@app.cls()\nclass A: ...", "twice"),
        ("@zygo.concurrent(max_inputs=2)\n@app.cls()\nclass A: ...", "it belongs below"),
        ("@app.cls(schedule=1)\nclass A: ...", "it is one of @app.function()"),
        ("@app.cls(colour=1)\nclass A: ...", "no parameter 'colour'"),
        ("@app.function()\n@zygo.method()\ndef f(x): ...", "@app.cls()"),
        ("@zygo.enter()\ndef f(): ...", "belongs on a method"),
        ("@app.cls()\n@zygo.fastapi_endpoint()\nclass A: ...", "decorates functions"),
        ("def make():\n    @app.cls()\n    class A: ...\nmake()", "Move it there"),
        ("class A:\n    @app.function()\n    def f(self): ...", "Put @app.cls() above"),
    ],
)
def test_decorators_in_the_wrong_place(refusal: Callable[[str], str], program: str, text: str) -> None:
    assert text in refusal(program)


def test_an_old_constructor_goes_along_pickled() -> None:
    other = zygo.App("old")

    class Old:
        def __init__(self, size: int, *, deep: bool = False) -> None:
            self.size = size

        @zygo.method()
        def get(self) -> int:
            return self.size

    Old.__qualname__ = "Old"
    made: Any = other.cls()(Old)
    assert made(3).get.local() == 3
    assert set(made(3).get.variant) == {"init"}
    with pytest.raises(TypeError, match="size"):
        made()


def test_a_class_can_be_derived_from() -> None:
    class Derived(Model):
        pass

    assert Derived.__mro__[1].__name__ == "Model"
