"""The web decorators: what they record, and that a wrong use shows the user's own code, corrected."""

from __future__ import annotations

import functools
import importlib.util
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import InvalidError, UnsupportedError
from zygo.model import BatchPolicy, WebSpec
from zygo.sdk import partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

app = zygo.App("deco")


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


def ping(x: int = 1) -> int:
    return x


def test_an_endpoint_records_how_it_answers() -> None:
    web = app.function()(zygo.fastapi_endpoint(method="post", label="my-ping", docs=True)(ping)).web
    assert web == WebSpec("fastapi_endpoint", "POST", "/", True, "my-ping")


def test_an_asgi_application() -> None:
    def factory() -> Any:
        return None

    factory.__qualname__ = "factory"
    assert app.function()(zygo.asgi_app(label="web")(factory)).web == WebSpec("asgi_app", label="web")


def test_concurrent_stands_above_or_below() -> None:
    for order in ([zygo.concurrent(max_inputs=10, target_inputs=4), zygo.fastapi_endpoint()],):
        for decorators in (order, order[::-1]):
            target: Any = ping
            for decorator in decorators:
                target = decorator(target)
            function = app.function()(target)
            assert (function.policy.max_inputs, function.policy.target_inputs) == (10, 4)
            assert function.web is not None


def test_concurrent_without_a_target_aims_at_the_maximum() -> None:
    policy = app.function()(zygo.concurrent(max_inputs=10)(ping)).policy
    assert (policy.max_inputs, policy.target_inputs) == (10, 10)


def test_a_wrapped_function_keeps_its_name() -> None:
    @functools.wraps(ping)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return ping(*args, **kwargs)

    function = app.function()(zygo.fastapi_endpoint()(wrapper))
    assert function.name == "ping"
    assert function.local(3) == 3


def test_web_endpoint_works_and_is_told() -> None:
    old = zygo.App("old")
    assert old.function()(zygo.web_endpoint(method="POST")(ping)).web == WebSpec("fastapi_endpoint", "POST")
    assert old.warnings() == ("ping: @web_endpoint is an old name; write @fastapi_endpoint",)
    with pytest.raises(UnsupportedError, match="wait_for_response"):
        zygo.web_endpoint(wait_for_response=False)


def test_custom_domains_are_normalised() -> None:
    partial = zygo.fastapi_endpoint(custom_domains=["A.example."])(ping)
    assert partial.web is not None
    assert partial.web.custom_domains == ("a.example",)
    zygo.App("new").function()(partial)
    with pytest.raises(InvalidError, match=r"'ping'.*no port"):
        zygo.fastapi_endpoint(custom_domains=["a.example:80"])(ping)


def test_an_endpoint_that_asks_for_a_proxy_token() -> None:
    web = zygo.App("closed").function()(zygo.fastapi_endpoint(requires_proxy_auth=True)(ping)).web
    assert web is not None
    assert web.requires_proxy_auth
    with pytest.raises(InvalidError, match="requires_proxy_auth='no' must be True or False"):
        zygo.asgi_app(requires_proxy_auth="no")(lambda: None)  # type: ignore[arg-type]


def test_retries_mean_nothing_for_a_web_function() -> None:
    with pytest.raises(InvalidError, match="web function") as caught:
        app.function(retries=3)(zygo.fastapi_endpoint()(ping))
    assert not isinstance(caught.value, UnsupportedError)


def test_a_function_that_never_met_the_app_is_remembered() -> None:
    partial.forget_orphans()
    waiting = zygo.fastapi_endpoint()(ping)
    assert partial.orphans() == [waiting]
    with pytest.raises(InvalidError, match=r"@app\.function\(\)\n    @zygo\.fastapi_endpoint\(\)\n    def ping\("):
        waiting()
    app.function()(waiting)
    assert partial.orphans() == []


# -- the corrected code ----------------------------------------------------------------------------------------------


def test_wrong_order(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        @zygo.fastapi_endpoint(docs=True)
        @app.function(min_containers=1)
        def square(x: int, *, name: str = "a") -> dict:
            return {}
        """)
    assert "'square'" in message
    assert message.endswith(
        "    @app.function(min_containers=1)\n"
        "    @zygo.fastapi_endpoint(docs=True)\n"
        "    def square(x: int, *, name: str='a') -> dict:\n"
        "        ..."
    )


def test_concurrent_in_the_wrong_order(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        @zygo.concurrent(max_inputs=3)
        @app.function()
        @zygo.asgi_app()
        def web():
            return None
        """)
    assert "    @app.function()\n    @zygo.concurrent(max_inputs=3)\n    @zygo.asgi_app()\n    def web():" in message


def test_missing_parentheses_of_an_endpoint(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        @app.function()
        @zygo.fastapi_endpoint
        async def square(x: int):
            return x
        """)
    assert "    @app.function()\n    @zygo.fastapi_endpoint()\n    async def square(x: int):" in message


def test_missing_parentheses_of_the_function(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        @app.function
        @zygo.fastapi_endpoint(method="POST")
        def square(x: int):
            return x
        """)
    assert "    @app.function()\n    @zygo.fastapi_endpoint(method='POST')\n    def square(x: int):" in message


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("asgi_app", "()"),
        ("wsgi_app", "()"),
        ("web_endpoint", "()"),
        ("concurrent", "(max_inputs=100)"),
        ("web_server", "(8000)"),
        ("batched", "(max_batch_size=8, wait_ms=100)"),
    ],
)
def test_missing_parentheses_of_the_others(refusal: Callable[[str], str], name: str, written: str) -> None:
    message = refusal(f"""
        @app.function()
        @zygo.{name}
        def web():
            return None
        """)
    assert f"    @zygo.{name}{written}\n    def web():" in message


def test_missing_parentheses_of_a_local_entrypoint(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        @app.local_entrypoint
        def main(count: int = 1):
            pass
        """)
    assert "    @app.local_entrypoint()\n    def main(count: int=1):" in message


def test_a_positional_argument(refusal: Callable[[str], str]) -> None:
    assert "@fastapi_endpoint(method='POST')" in refusal("zygo.fastapi_endpoint('POST')")
    assert "name='square'" in refusal("app.function('square')")


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_generator(refusal: Callable[[str], str], keyword: str) -> None:
    message = refusal(f"""
        @app.function()
        @zygo.fastapi_endpoint()
        {keyword} numbers(n: int):
            yield n
        """)
    assert "from fastapi.responses import StreamingResponse" in message
    assert "    def numbers(n: int):" in message
    assert f"        {keyword} stream():" in message


def test_a_class(refusal: Callable[[str], str]) -> None:
    for decorators in ("@zygo.fastapi_endpoint()", "@zygo.fastapi_endpoint"):
        message = refusal(f"{decorators}\nclass ImageModel:\n    pass")
        assert "'ImageModel'" in message
        assert "    @app.function()\n    @zygo.fastapi_endpoint()\n    def image_model():" in message
    assert "'ImageModel'" in refusal("@app.function()\nclass ImageModel:\n    pass")
    assert "'ImageModel'" in refusal("@app.function\nclass ImageModel:\n    pass")


def test_a_function_inside_another(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        def make():
            @app.function(cpu=1)
            @zygo.fastapi_endpoint()
            def square(x: int):
                return x
        make()
        """)
    assert "inside 'make'" in message
    assert "\n    @app.function(cpu=1)\n    @zygo.fastapi_endpoint()\n    def square(x: int):" in message


def test_a_method(refusal: Callable[[str], str]) -> None:
    message = refusal("""
        class Model:
            @app.function()
            def predict(self, x: int):
                return x
        """)
    assert "'Model.predict'" in message
    assert "    @app.function()\n    def predict(x: int):" in message


def test_a_lambda_and_other_things(refusal: Callable[[str], str]) -> None:
    assert "lambda" in refusal("app.function()(lambda x: x)")
    assert "42" in refusal("app.function()(42)")
    assert "partial" in refusal("import functools\napp.function()(functools.partial(print))")
    assert "42" in refusal("zygo.fastapi_endpoint()(42)")


def test_one_decorator_twice(refusal: Callable[[str], str]) -> None:
    assert "twice" in refusal("@app.function()\n@app.function()\ndef f(): ...")
    assert "at once" in refusal("@app.function()\n@zygo.fastapi_endpoint()\n@zygo.asgi_app()\ndef f(): ...")
    assert "at once" in refusal("@zygo.concurrent(max_inputs=1)\n@zygo.concurrent(max_inputs=1)\ndef f(): ...")


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("async def web():", "is async"),
        ("def web(request, debug=False):", "has parameters"),
        ("def web(debug=False):", "has parameters"),
    ],
)
def test_a_factory_that_cannot_be_called(refusal: Callable[[str], str], definition: str, reason: str) -> None:
    for kind in ("asgi_app", "wsgi_app"):
        message = refusal(f"@app.function()\n@zygo.{kind}(label='w')\n{definition}\n    return None")
        assert reason in message
        assert (
            f"    @app.function()\n    @zygo.{kind}(label='w')\n    def web():\n        ...\n        return" in message
        )
    message = refusal(f"@app.function()\n@zygo.web_server(8000)\n{definition}\n    return None")
    assert reason in message
    assert "    @zygo.web_server(8000)\n    def web():\n        subprocess.Popen([...])" in message


@pytest.mark.parametrize("port", ["", "0", "65536", "'8000'", "True", "port=8080.5"])
def test_a_port_that_is_none(refusal: Callable[[str], str], port: str) -> None:
    assert "is not a port (1 to 65535). Write @zygo.web_server(8000)" in refusal(
        f"@app.function()\n@zygo.web_server({port})\ndef web(): ..."
    )


def test_a_web_server_records_where_it_listens() -> None:
    def factory() -> None:
        return None

    factory.__qualname__ = "factory"
    function = app.function()(zygo.web_server(8080, startup_timeout=600, label="ui")(factory))
    assert function.web == WebSpec("web_server", label="ui", port=8080, startup_timeout=600.0)
    healthy = zygo.web_server(8080, health_path="/health?full=1")(factory)
    assert healthy.web is not None
    assert healthy.web.health_path == "/health?full=1"
    spec = function.spec()
    assert spec.own_network
    assert spec.startup_timeout == 900.0, "a start may take what the server is given"
    for wrong in (0, -1, "5"):
        with pytest.raises(InvalidError, match="startup_timeout"):
            zygo.web_server(8000, startup_timeout=wrong)(factory)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "mended"),
    [
        ("'health'", "/health"),
        ("'http://localhost:8000/up'", "/up"),
        ("'/he alth'", "/health"),
        ("'/a#b'", "/a"),
        ("''", "/health"),
        ("b'/health'", "/health"),
        ("True", "/health"),
    ],
)
def test_a_health_path_that_is_none(refusal: Callable[[str], str], written: str, mended: str) -> None:
    message = refusal(f"@app.function()\n@zygo.web_server(8000, health_path={written})\ndef web(): ...")
    assert "must be a path on the server's port that starts with a slash" in message
    assert f'Use health_path="{mended}".' in message


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("max_batch_size=0, wait_ms=1", "max_batch_size=0"),
        ("max_batch_size=1001, wait_ms=1", "max_batch_size=1001"),
        ("max_batch_size=4", "wait_ms=None"),
        ("wait_ms=4", "max_batch_size=None"),
        ("max_batch_size=4, wait_ms=600001", "wait_ms=600001"),
    ],
)
def test_batches_that_cannot_be(refusal: Callable[[str], str], written: str, text: str) -> None:
    message = refusal(f"@app.function()\n@zygo.batched({written})\ndef f(xs): ...")
    assert text in message
    assert "@zygo.batched(max_batch_size=8, wait_ms=100)" in message


def test_functions_that_cannot_be_batched(refusal: Callable[[str], str]) -> None:
    batched = "@app.function()\n@zygo.batched(max_batch_size=4, wait_ms=10)\n"
    assert "is a default value" in refusal(f"{batched}def f(xs, y=1): ...")
    assert "is a generator" in refusal(f"{batched}def f(xs):\n    yield 1")
    assert "at once" in refusal(f"{batched}@zygo.fastapi_endpoint()\ndef f(): ...")
    assert "at once" in refusal(f"{batched}@zygo.concurrent(max_inputs=4)\ndef f(xs): ...")


def test_a_batch_is_as_large_as_what_a_container_gets_at_once() -> None:
    function = app.function()(zygo.batched(max_batch_size=4, wait_ms=100)(ping_many))
    assert (function.policy.max_inputs, function.policy.target_inputs) == (4, 4)
    assert function.spec().batch == BatchPolicy(4, 0.1)


def ping_many(xs: list[int]) -> list[int]:
    return xs


def test_concurrency_that_does_not_fit(refusal: Callable[[str], str]) -> None:
    message = refusal("@zygo.concurrent(max_inputs=2, target_inputs=5)\ndef f(): ...")
    assert "target_inputs=5 is above max_inputs=2" in message
    message = refusal("@app.function()\n@zygo.concurrent()\ndef f(): ...")
    assert "    @zygo.concurrent(max_inputs=100)\n    def f():" in message
    assert "max_inputs=0" in refusal("@zygo.concurrent(max_inputs=0)\ndef f(): ...")


@pytest.mark.parametrize(
    ("label", "mended"),
    [("My_Label", "my-label"), ("-a", "a"), ("a" * 64, "a" * 63), ("ä b", "b"), ("a.b", "a-b")],
)
def test_a_label_is_not_normalised_but_refused(label: str, mended: str) -> None:
    with pytest.raises(InvalidError, match=f"Use label='{mended}'"):
        zygo.fastapi_endpoint(label=label)(ping)


def test_a_method_that_is_none(refusal: Callable[[str], str]) -> None:
    assert "method='FETCH'" in refusal("@zygo.fastapi_endpoint(method='FETCH')\ndef f(): ...")


@pytest.mark.parametrize("path", ["/items/{x}", "/items/{x:int}", "/a/{x:path}", "/plain", "/a-b/c.d"])
def test_paths_that_work(path: str) -> None:
    web = app.function()(zygo.fastapi_endpoint(path=path)(ping)).web
    assert web is not None
    assert web.path == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("items", "path='/items'"),
        ("/items?x=1", "path='/items'"),
        ("/items/{x", "brace"),
        ("/items/{}", "{id}"),
        ("/items/{x:number}", "{id}"),
        ("/items/{x}/{x}", "twice"),
    ],
)
def test_paths_that_do_not(path: str, text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        zygo.fastapi_endpoint(path=path)(ping)
    assert text in str(caught.value)


def test_a_path_parameter_that_the_function_lacks(refusal: Callable[[str], str]) -> None:
    message = refusal("@app.function()\n@zygo.fastapi_endpoint(path='/items/{id}')\ndef item(q: str): ...")
    assert "    @zygo.fastapi_endpoint(path='/items/{id}')\n    def item(id: str, q: str):" in message


def test_a_path_that_the_docs_have(refusal: Callable[[str], str]) -> None:
    assert "docs=True" in refusal("@zygo.fastapi_endpoint(path='/docs', docs=True)\ndef f(): ...")


def test_without_the_source_the_plain_form_is_shown() -> None:
    namespace: dict[str, Any] = {"zygo": zygo, "app": app}
    program = "@zygo.fastapi_endpoint()\n@app.function()\nasync def square(x: int): ..."
    with pytest.raises(InvalidError) as caught:
        exec(compile(program, "<no file>", "exec"), namespace)
    assert "    @app.function()\n    @zygo.fastapi_endpoint()\n    async def square(x" in str(caught.value)
