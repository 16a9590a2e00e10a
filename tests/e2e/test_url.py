"""The URL that is printed works at once with every client of this machine, stays the same, and goes with its serve."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest
import requests

from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Serve

HELLO = """
    import zygo
    from pydantic import BaseModel

    app = zygo.App("hello")

    class Item(BaseModel):
        name: str
        quantity: int = 1

    @app.function()
    @zygo.fastapi_endpoint()
    def square(x: int, verbose: bool = False):
        return {"square": x**2}

    @app.function()
    @zygo.fastapi_endpoint(method="POST")
    def order(item: Item):
        return {"ordered": item.name * item.quantity}

    @app.function()
    @zygo.fastapi_endpoint(path="/items/{id}", method="DELETE")
    def remove(id: int):
        return {"removed": id}

    @app.function()
    @zygo.fastapi_endpoint()
    def page():
        from fastapi.responses import HTMLResponse

        return HTMLResponse('''<body><p id=out>waiting</p><script>
            document.getElementById("out").textContent = "made by " + "script: " + 6 * 7;
        </script></body>''')
"""
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@pytest.fixture(scope="class")
def serve(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("hello") / "hello.py"
    lines = HELLO.splitlines()
    path.write_text("\n".join(line[4:] for line in lines))
    with shared_place.serve(path) as running:
        yield running
    shared_place.settle()


def curl(*arguments: str) -> str:
    return subprocess.check_output(["curl", "-sS", "--noproxy", "*", *arguments], text=True, timeout=30)


class TestServed:
    """One program for all of these."""

    def test_with_curl_requests_and_the_standard_library(self, serve: Serve) -> None:
        url = serve.url("square")
        assert curl(f"{url}?x=6") == '{"square":36}'
        assert requests.get(url, params={"x": 6}, timeout=30).json() == {"square": 36}
        with urllib.request.urlopen(f"{url}?x=6", timeout=30) as answer:
            assert json.load(answer) == {"square": 36}

    def test_the_hostname_works_with_curl(self, serve: Serve) -> None:
        url = serve.hostname_url("square")
        host, port = re.fullmatch(r"http://([a-z0-9-]+\.localhost):(\d+)", url).groups()  # type: ignore[union-attr]
        assert host == "local--hello-square-dev.localhost"
        assert curl(f"{url}?x=6") == '{"square":36}'
        assert requests.get(f"http://127.0.0.1:{port}?x=6", headers={"Host": host}, timeout=30).json() == {"square": 36}
        unknown = requests.get(f"http://127.0.0.1:{port}", headers={"Host": "local--nobody-dev.localhost"}, timeout=30)
        assert unknown.status_code == 404
        assert "local--nobody-dev.localhost" in unknown.text
        assert unknown.headers["x-request-id"] in unknown.text

    @pytest.mark.skipif(not CHROMIUM, reason="no browser on this machine; scripts/test installs one")
    @pytest.mark.parametrize("kind", ["url", "hostname_url"])
    def test_with_a_browser(self, serve: Serve, tmp_path: Path, kind: str) -> None:
        url = getattr(serve, kind)("page")
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
        ]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
        shown = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=90, check=True
        )
        assert "made by script: 42" in shown.stdout

    @pytest.mark.parametrize(
        ("function", "status", "text"),
        [
            ("square", 200, '{"square":'),
            ("order", 200, '{"ordered":'),
            ("remove", 200, '{"removed":'),
            ("page", 200, "waiting"),
        ],
    )
    def test_the_line_to_paste_works(self, serve: Serve, function: str, status: int, text: str) -> None:
        lines = serve.text.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  {function} => "))
        line = next(line for line in lines[start:] if line.strip().startswith("curl "))
        shown = subprocess.check_output(
            ["curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", *shlex.split(line)[1:]], text=True, timeout=30
        )
        body, _, code = shown.rpartition("\n")
        assert int(code) == status, body
        assert text in body


def test_the_urls_are_the_same_the_next_time(place: Place, write: Callable[..., Path]) -> None:
    path = write(HELLO.replace('"hello"', '"stays"'))
    with place.serve(path) as first:
        urls = [first.url(name) for name in ("square", "order")] + [first.hostname_url("square")]
    with place.serve(path) as second:
        assert [second.url(name) for name in ("square", "order")] + [second.hostname_url("square")] == urls
        assert second.get("square", params={"x": 2}).json() == {"square": 4}


def test_get_web_url_is_what_was_printed(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        app = zygo.App("knows")

        @app.function()
        @zygo.fastapi_endpoint()
        def a():
            return [a.get_web_url(), b.get_web_url()]

        @app.function()
        @zygo.fastapi_endpoint()
        def b():
            return 1
    """)
    with place.serve(path) as serve:
        assert serve.get("a").json() == [serve.url("a"), serve.url("b")]


def test_a_function_port_that_is_taken_is_replaced_and_remembered(place: Place, write: Callable[..., Path]) -> None:
    path = write(HELLO.replace('"hello"', '"moves"'))
    with place.serve(path) as serve:
        before = serve.url("square")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(before.rpartition(":")[2])))
        other.listen()
        with place.serve(path) as serve:
            instead = serve.url("square")
            assert instead != before
            assert serve.get("square", params={"x": 2}).json() == {"square": 4}
    with place.serve(path) as serve:
        assert serve.url("square") == instead


def test_a_gateway_port_that_is_taken_is_replaced_said_and_remembered(write: Callable[..., Path]) -> None:
    path = write(HELLO)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        wanted = other.getsockname()[1]
        with Place({"ZYGO_PORT": str(wanted)}) as place:
            with place.serve(path) as serve:
                port = _gateway_port(serve)
                assert port != wanted
                assert serve.seen(rf"Port {wanted} is taken, so the gateway uses {port}")
                status = place.zygo("server", "status")
                assert f"port {wanted} was taken" in status.text
            place.stop_server()
            with place.serve(path) as serve:
                assert _gateway_port(serve) == port
            place.settle()


def _gateway_port(serve: Serve) -> int:
    return int(serve.hostname_url("square").rpartition(":")[2])


def test_a_second_serve_of_an_app_is_refused_unless_forced(place: Place, write: Callable[..., Path]) -> None:
    first_file, second_file = write(HELLO, "a/hello.py"), write(HELLO.replace("x**2", "x**3"), "b/hello.py")
    with place.serve(first_file) as first:
        refused = place.zygo("serve", "hello.py", cwd=second_file.parent)
        assert refused.code == 1
        assert "'hello' is being served already" in refused.text
        assert str(first_file) in refused.text
        assert "--force" in refused.text
        assert "--name" in refused.text
        assert first.get("square", params={"x": 2}).json() == {"square": 4}
        url = first.url("square")
        with place.serve(second_file, "--force") as second:
            assert first.exit_status() == 1
            assert first.seen("another `zygo serve --force` took over")
            assert second.url("square") == url
            assert second.get("square", params={"x": 2}).json() == {"square": 8}
        with place.serve(first_file, "--name", "other") as third, place.serve(second_file) as fourth:
            assert third.get("square", params={"x": 2}).json() == {"square": 4}
            assert fourth.get("square", params={"x": 2}).json() == {"square": 8}


def test_a_label_of_another_app_is_refused(place: Place, write: Callable[..., Path]) -> None:
    text = HELLO.replace("@zygo.fastapi_endpoint()", "@zygo.fastapi_endpoint(label='mine')", 1)
    first_file = write(text.replace('"hello"', '"one"'), "one.py")
    second_file = write(text.replace('"hello"', '"two"'), "two.py")
    with place.serve(first_file) as first:
        refused = place.zygo("serve", "two.py", cwd=second_file.parent)
        assert refused.code == 1
        assert "local--mine-dev.localhost" in refused.text
        assert "one.square" in refused.text
        assert first.get("square", params={"x": 2}).json() == {"square": 4}


def test_a_long_name_is_shortened_and_works(place: Place, write: Callable[..., Path]) -> None:
    long = "a" * 30
    path = write(f"""
        import zygo

        app = zygo.App("{long}")

        @app.function()
        @zygo.fastapi_endpoint()
        def {long}_{long}():
            return "short enough"
    """)
    with place.serve(path) as serve:
        url = serve.hostname_url(f"{long}_{long}")
        label = url.removeprefix("http://").partition(".")[0]
        assert len(label) == 63
        assert curl(url) == '"short enough"'
        assert serve.seen("shortened to 63")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "kill -9", "closed terminal", "closed pipe"])
def test_the_app_is_gone_however_its_serve_ends(place: Place, write: Callable[..., Path], how: str) -> None:
    with place.serve(write(HELLO), terminal=how == "closed terminal") as serve:
        url, hostname_url = serve.url("square"), serve.hostname_url("square")
        assert serve.get("square", params={"x": 2}).json() == {"square": 4}
        if how == "Ctrl-C":
            assert serve.stop() == 0
        elif how == "SIGTERM":
            serve.signal(signal.SIGTERM)
            assert serve.exit_status() == 0
        elif how == "kill -9":
            serve.kill()
        elif how == "closed terminal":
            assert serve.hang_up() == 0
        else:
            serve.close_output()
            assert serve.exit_status() == 0
    until(lambda: not _answers(url), 15, "the end of the app")
    port = hostname_url.rpartition(":")[2]
    host = hostname_url.removeprefix("http://").partition(":")[0]
    assert requests.get(f"http://127.0.0.1:{port}", headers={"Host": host}, timeout=30).status_code == 404
    status = place.status()
    assert status is not None
    assert status["apps"] == []
    # `place` asserts that no process, socket, mount or control group is left.


def _answers(url: str) -> bool:
    try:
        requests.get(url, params={"x": 1}, timeout=30)
    except requests.ConnectionError:
        return False
    return True


def test_a_second_ctrl_c_ends_at_once(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(HELLO)) as serve:
        serve.signal(signal.SIGINT)
        serve.signal(signal.SIGINT)
        assert serve.exit_status() in (0, 130)


def test_timeout_ends_it(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(HELLO), "--timeout", "1.5", wait=False) as serve:
        assert serve.exit_status(60) == 0


def test_the_server_holds_nothing_of_apps_that_ended(place: Place, write: Callable[..., Path]) -> None:
    path = write(HELLO)
    descriptors = f"/proc/{place.server_pid()}/fd"
    first = 0
    for _ in range(5):
        with place.serve(path) as serve:
            assert serve.get("square", params={"x": 2}).json() == {"square": 4}
            serve.save("program.py", path.read_text() + "\n#")
            serve.wait_for("Updated hello in")
            assert serve.get("square", params={"x": 3}).json() == {"square": 9}
        place.settle()
        first = first or len(os.listdir(descriptors))
    # What was asked of it is closed a moment after it was answered. The server opens some files of its own when it first
    # needs them; what an app leaves would be there four times.
    until(
        lambda: len(os.listdir(descriptors)) < first + 4, what=f"no more descriptors than after the first app, {first}"
    )
