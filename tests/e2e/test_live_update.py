"""Live update: what you saved is what you get, whatever way it was saved, and no request is lost for it."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from websockets.sync.client import connect

from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place, Serve

UPDATED = r"Updated \S+ in"


def number(value: object, *, name: str = "live", also: str = "") -> str:
    return f"""
import zygo

app = zygo.App({name!r})
{also}

@app.function()
@zygo.fastapi_endpoint()
def f():
    return {value!r}
"""


def follow(serve: Serve, old: object, new: object) -> None:
    """Ask until the new answer comes, and then some more: only the old one before it, never the old one again."""
    with requests.Session() as session:

        def ask() -> object:
            answer = session.get(serve.url("f"), timeout=30)
            assert answer.status_code == 200, answer.text
            return answer.json()

        until(lambda: _is_new(ask(), old, new), 30, f"the answer {new!r}")
        assert [ask() for _ in range(5)] == [new] * 5


def _is_new(answer: object, old: object, new: object) -> bool:
    assert answer in (old, new)
    return answer == new


@pytest.mark.parametrize("atomic", [False, True], ids=["in place", "replaced"])
def test_a_save_is_what_the_next_requests_get(place: Place, write: Callable[..., Path], atomic: bool) -> None:
    with place.serve(write(number(0))) as serve:
        url = serve.url("f")
        assert serve.get("f").json() == 0
        for i in range(1, 6):
            serve.save("program.py", number(i), atomic=atomic)
            follow(serve, i - 1, i)
        assert serve.url("f") == url


def test_after_update_was_said_the_very_next_request_is_new(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(number(0))) as serve:
        for i in range(1, 6):
            serve.save("program.py", number(i))
            serve.wait_for(UPDATED)
            assert serve.get("f").json() == i


def test_local_modules_are_followed_however_they_change(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        import helper
        from package import part

        app = zygo.App("modules")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            import late

            return [helper.VALUE, part.VALUE, late.VALUE]
    """)
    write("VALUE = 1\n", "helper.py")
    write("", "package/__init__.py")
    write("from .inner import VALUE\n", "package/part.py")
    write("VALUE = 1\n", "package/inner.py")
    write("VALUE = 1\n", "late.py")
    with place.serve(path) as serve:
        assert serve.get("f").json() == [1, 1, 1]
        serve.save("helper.py", "VALUE = 2\n")
        follow(serve, [1, 1, 1], [2, 1, 1])
        serve.save("package/inner.py", "VALUE = 2\n", atomic=True)
        follow(serve, [2, 1, 1], [2, 2, 1])
        serve.save("late.py", "VALUE = 2\n")
        follow(serve, [2, 2, 1], [2, 2, 2])
        # A new module, and the one that imports it.
        serve.save("fresh.py", "VALUE = 3\n")
        serve.save("helper.py", "from fresh import VALUE\n")
        follow(serve, [2, 2, 2], [3, 2, 2])
        serve.save("fresh.py", "VALUE = 4\n")
        follow(serve, [3, 2, 2], [4, 2, 2])
        # A new file in the package, found by name.
        serve.save("package/extra.py", "VALUE = 5\n")
        serve.save("package/part.py", "from .extra import VALUE\n")
        follow(serve, [4, 2, 2], [4, 5, 2])
        # A module becomes a package of the same name.
        serve.delete("late.py")
        serve.save("late/__init__.py", "VALUE = 6\n")
        follow(serve, [4, 5, 2], [4, 5, 6])
        # A folder that is replaced whole, as a version control system does.
        shutil.copytree(serve.folder / "package", serve.folder / "package.new")
        (serve.folder / "package.new" / "extra.py").write_text("VALUE = 7\n")
        (serve.folder / "package").rename(serve.folder / "package.old")
        (serve.folder / "package.new").rename(serve.folder / "package")
        follow(serve, [4, 5, 6], [4, 7, 6])


def test_a_deleted_or_renamed_module_is_a_failure_until_it_is_back(place: Place, write: Callable[..., Path]) -> None:
    path = write(number(0, also="from helper import VALUE").replace("return 0", "return VALUE"))
    write("VALUE = 1\n", "helper.py")
    with place.serve(path) as serve:
        assert serve.get("f").json() == 1
        serve.delete("helper.py")
        serve.wait_for(r"Error: .*helper")
        serve.wait_for("The old code keeps answering")
        assert serve.get("f").json() == 1
        serve.save("helper.py", "VALUE = 2\n")
        follow(serve, 1, 2)
        (serve.folder / "helper.py").rename(serve.folder / "renamed.py")
        serve.wait_for(r"Error: .*helper")
        serve.save("program.py", path.read_text().replace("from helper", "from renamed"))
        follow(serve, 2, 2)
        serve.save("renamed.py", "VALUE = 3\n")
        follow(serve, 2, 3)


def test_what_is_no_source_does_not_trigger(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import zygo

        import package

        app = zygo.App("quiet")

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            for path in ("/root/own.txt", "/root/package/own.py", "/root/program.py", "/tmp/x"):
                with open(path, "a") as file:
                    file.write("# the app's own\\n")
            return package.VALUE
    """)
    write("VALUE = 1\n", "package/__init__.py")
    with place.serve(path) as serve:
        assert serve.get("f").json() == 1
        subprocess.run(["git", "init", "-q"], cwd=path.parent, check=True)
        subprocess.run(["python3", "-m", "compileall", "-q", "."], cwd=path.parent, check=True)
        for name in (
            ".git/index",
            "package/.git/HEAD",
            "package/x.pyc",
            "package/__pycache__/y.pyc",
            ".x.swp",
            "a.txt",
        ):
            serve.save(name, "junk")
        os.utime(path)  # touched, and not changed
        serve.save("package/__init__.py", "VALUE = 1\n")  # saved as it was
        serve.save("unrelated.py", "VALUE = 1\n")  # nobody imports it
        # Events come in order: by the time this one was followed, those before it were seen.
        serve.save("package/__init__.py", "VALUE = 2\n")
        follow(serve, 1, 2)
        assert len([line for line in serve.lines if "Updated" in line]) == 1, serve.text


def test_broken_code_keeps_the_old_answering_and_the_next_good_save_takes_over(
    place: Place, write: Callable[..., Path]
) -> None:
    with place.serve(write(number(1))) as serve:
        assert serve.get("f").json() == 1
        breaks = {
            "def f(:\n": r"SyntaxError",
            number(2, also="import no_such_module_anywhere"): "no_such_module_anywhere",
            number(2, also="{}['missing']"): r"KeyError: 'missing'",
            number(2, also="raise SystemExit(3)"): "ends the process",
            number(2).replace(
                "@app.function()\n@zygo.fastapi_endpoint()", "@zygo.fastapi_endpoint()\n@app.function()"
            ): ("belongs below"),
        }
        for text, words in breaks.items():
            serve.save("program.py", text)
            serve.wait_for(rf"Error: program\.py, line \d+.*{words}|Error: .*{words}")
            serve.wait_for("The old code keeps answering")
            assert [serve.get("f").json() for _ in range(3)] == [1, 1, 1]
        assert serve.seen(r'File ".*program\.py", line \d+, in <module>')
        assert "zygo/cli" not in serve.text
        serve.save("program.py", number(2))
        follow(serve, 1, 2)


def test_code_that_only_fails_in_the_container_keeps_the_old_answering(
    place: Place, write: Callable[..., Path]
) -> None:
    with place.serve(write(number(1))) as serve:
        serve.save("program.py", number(2, also="if not zygo.is_local():\n    raise RuntimeError('remote only')"))
        serve.wait_for("RuntimeError: remote only")
        serve.wait_for("The old code keeps answering")
        assert serve.get("f").json() == 1
        serve.save("program.py", number(3))
        follow(serve, 1, 3)


def test_a_program_that_is_broken_at_the_start_ends_the_command(place: Place, write: Callable[..., Path]) -> None:
    path = write("1 / 0\n")
    ended = place.zygo("serve", "program.py", cwd=path.parent)
    assert ended.code == 1
    assert "program.py, line 1: ZeroDivisionError" in ended.text


def test_at_a_terminal_it_waits_for_the_mend(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write("1 / 0\n"), terminal=True, wait=False) as serve:
        serve.wait_for("Waiting for program.py to be saved")
        serve.save("program.py", number(1))
        serve.wait_for(r"Serving\.\.\.")
        assert serve.get("f").json() == 1


def test_functions_come_and_go_with_their_urls(place: Place, write: Callable[..., Path]) -> None:
    more = "\n@app.function()\n@zygo.fastapi_endpoint()\ndef g():\n    return 'g'\n"
    with place.serve(write(number(1))) as serve:
        f = serve.url("f")
        serve.save("program.py", number(1) + more)
        serve.wait_for(r"g => http")
        assert serve.get("g").json() == "g"
        g = serve.url("g")
        serve.save("program.py", number(2))
        follow(serve, 1, 2)
        with pytest.raises(requests.ConnectionError):
            requests.get(g, timeout=30)
        assert requests.get(f, timeout=30).json() == 2
        serve.save("program.py", number(3) + more)
        serve.wait_for(r"g => http")
        assert serve.url("g") == g
        assert serve.get("g").json() == "g"


def test_files_of_the_image_and_the_environment_are_followed(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import os

        import zygo

        image = zygo.Image.debian_slim().add_local_file("words.txt", "/words.txt").add_local_dir("assets", "/assets")
        app = zygo.App("added", image=image, secrets=[zygo.Secret.from_dotenv()])

        @app.function()
        @zygo.fastapi_endpoint()
        def f():
            return [open("/words.txt").read(), sorted(os.listdir("/assets")), os.environ["WORD"]]
    """)
    write("one", "words.txt")
    write("a", "assets/a.txt")
    write("WORD=x\n", ".env")
    with place.serve(path) as serve:
        assert serve.get("f").json() == ["one", ["a.txt"], "x"]
        serve.save("words.txt", "two")
        follow(serve, ["one", ["a.txt"], "x"], ["two", ["a.txt"], "x"])
        serve.save("assets/b.txt", "b", atomic=True)
        follow(serve, ["two", ["a.txt"], "x"], ["two", ["a.txt", "b.txt"], "x"])
        serve.delete("assets/a.txt")
        follow(serve, ["two", ["a.txt", "b.txt"], "x"], ["two", ["b.txt"], "x"])
        serve.save(".env", "WORD=y\n")
        follow(serve, ["two", ["b.txt"], "x"], ["two", ["b.txt"], "y"])


def test_a_changed_image_is_built_and_then_switched_to(place: Place, write: Callable[..., Path]) -> None:
    def program(version: str) -> str:
        return (
            number(0)
            .replace("'live'", f"'live', image=zygo.Image.debian_slim().pip_install('toml=={version}')")
            .replace("return 0", "import toml; return toml.__version__")
        )

    with place.serve(write(program("0.10.1"))) as serve:
        assert serve.get("f").json() == "0.10.1"
        serve.save("program.py", program("0.10.2"))
        follow(serve, "0.10.1", "0.10.2")
        assert serve.seen(r"pip_install\(.toml==0\.10\.2.\) \| Installed 1 package")


def test_a_burst_of_saves_collapses_and_the_last_one_wins(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(number(0))) as serve:
        assert serve.get("f").json() == 0
        for i in range(1, 101):
            serve.save("program.py", number(i), atomic=bool(i % 2))
        until(lambda: serve.get("f").json() == 100, 30, "the last save")
        assert [serve.get("f").json() for _ in range(5)] == [100] * 5
        updates = [line for line in serve.lines if "Updated" in line]
        assert 1 <= len(updates) < 50
        assert not serve.seen("Error"), serve.text


def test_as_editors_save(place: Place, write: Callable[..., Path]) -> None:
    path = write(number(0))
    with place.serve(path) as serve:
        assert serve.get("f").json() == 0
        # vim with backup: the old file is moved away, a new one written, the backup deleted.
        path.rename(path.with_name("program.py~"))
        path.write_text(number(1))
        path.with_name("program.py~").unlink()
        follow(serve, 0, 1)
        # Truncated first, written a moment later through the same descriptor.
        with path.open("r+") as file:
            file.truncate(0)
            file.flush()
            file.write(number(2))
        follow(serve, 1, 2)
        # The same size and the same times as before.
        times = path.stat()
        path.write_text(number(3))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        follow(serve, 2, 3)
        # Saved and at once taken back: what counts is what is there.
        path.write_text(number(4))
        path.write_text(number(3))
        serve.save("program.py", number(5))
        until(lambda: serve.get("f").json() == 5, 30, "the last save")


def test_linked_files_are_followed_to_where_they_lie(place: Place, write: Callable[..., Path]) -> None:
    write(number(0, also="import helper").replace("return 0", "return [0, helper.VALUE]"), "real/program.py")
    write("VALUE = 0\n", "real/helper.py")
    path = write("", "linked/program.py")
    path.unlink()
    path.symlink_to("../real/program.py")
    (path.parent / "helper.py").symlink_to("../real/helper.py")
    with place.serve(path, cwd=path.parent) as serve:
        assert serve.get("f").json() == [0, 0]
        serve.save("../real/helper.py", "VALUE = 1\n")
        follow(serve, [0, 0], [0, 1])
        serve.save("../real/program.py", path.read_text().replace("[0,", "[2,"), atomic=True)
        follow(serve, [0, 1], [2, 1])
        write("VALUE = 3\n", "real/other.py")
        (path.parent / "helper.new").symlink_to("../real/other.py")
        (path.parent / "helper.new").replace(path.parent / "helper.py")
        follow(serve, [2, 1], [2, 3])


def test_a_websocket_outlives_a_save(place: Place, write: Callable[..., Path]) -> None:
    text = """
import zygo

app = zygo.App("socket")

@app.function()
@zygo.concurrent(max_inputs=10)
@zygo.asgi_app()
def f():
    from fastapi import FastAPI, WebSocket

    web = FastAPI()

    @web.get("/")
    def index():
        return 0

    @web.websocket("/")
    async def echo(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"0 {text}")

    return web
"""
    with place.serve(write(text)) as serve:
        assert serve.get("f").json() == 0
        with connect(serve.url("f").replace("http:", "ws:"), open_timeout=30) as live:
            live.send("before")
            assert live.recv(30) == "0 before"
            serve.save("program.py", text.replace("0", "1").replace("max_inputs=11", "max_inputs=10"))
            follow(serve, 0, 1)
            live.send("after")
            assert live.recv(30) == "0 after"


def test_a_file_that_is_written_in_pieces_never_runs_half(place: Place, write: Callable[..., Path]) -> None:
    text = number(1, also="\n".join(f"v{i} = {i}" for i in range(2000)))
    with place.serve(write(number(0))) as serve:
        with open(serve.folder / "program.py", "w") as file:
            for start in range(0, len(text), 4000):
                file.write(text[start : start + 4000])
                file.flush()
        until(lambda: serve.get("f").json() == 1, 30, "the whole file")


def test_no_reload_follows_nothing(place: Place, write: Callable[..., Path]) -> None:
    with place.serve(write(number(1)), "--no-reload") as serve:
        assert not serve.seen("Watching")
        serve.save("program.py", number(2))
        assert [serve.get("f").json() for _ in range(20)] == [1] * 20
        assert not serve.seen("Updated")
        assert serve.stop() == 0
        assert not serve.seen("Updated")


CONNECTIONS, SAVES = 64, 10

COUNTED = """
import zygo

app = zygo.App("counted")
NUMBER = {number}

@app.function(max_containers=8)
@zygo.concurrent(max_inputs=100)
@zygo.fastapi_endpoint()
async def f():
    return NUMBER

@app.function()
@zygo.asgi_app()
def stream():
    async def echo(scope, receive, send):
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            line = b"%d: %b;" % (NUMBER, message["body"]) if message["body"] else b""
            await send({{"type": "http.response.body", "body": line, "more_body": more}})

    return echo
"""


class OpenStream:
    """A request whose body and answer both stay open until `end`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=60)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._answered = False

    def say(self, text: str) -> str:
        """Send a piece, and what comes back for it."""
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(text), text.encode()))
        if not self._answered:
            self._answered = True
            assert self._file.readline().split()[1] == b"200"
            while self._file.readline() != b"\r\n":
                pass
        return self._chunk().decode()

    def end(self) -> bytes:
        """End the request; the last piece of the answer, empty when it ends properly."""
        self._socket.sendall(b"0\r\n\r\n")
        last = self._chunk()
        self._file.close()
        self._socket.close()
        return last

    def _chunk(self) -> bytes:
        size = int(self._file.readline(), 16)
        return self._file.read(size + 2)[:size]


class Caller(threading.Thread):
    """Asks again and again on one kept connection until told to stop; keeps the numbers and whatever went wrong."""

    def __init__(self, url: str, stop: threading.Event, latest: list[int]) -> None:
        super().__init__()
        self.url, self.stop, self.latest = urlsplit(url), stop, latest
        self.numbers: list[int] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        assert self.url.hostname is not None
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        try:
            while not self.stop.is_set():
                self.ask(connection)
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error} after {len(self.numbers)} answers")
        finally:
            connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", "/")
        kept = connection.sock
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            self.wrong.append(f"{answer.status}: {body[:200]!r}")
            return
        number = int(body)
        if self.numbers and number < self.numbers[-1]:
            self.wrong.append(f"{number} after {self.numbers[-1]}")
        if connection.sock is not kept:
            self.wrong.append("the connection was closed")
        self.numbers.append(number)
        self.latest[0] = max(self.latest[0], number)


def test_ten_saves_under_64_connections(place: Place, write: Callable[..., Path]) -> None:
    path = write(COUNTED.format(number=0))
    stop, latest = threading.Event(), [0]
    with place.serve(path) as serve:
        callers = [Caller(serve.url("f"), stop, latest) for _ in range(CONNECTIONS)]
        stream = OpenStream(serve.url("stream"))
        assert stream.say("before") == "0: before;"
        for caller in callers:
            caller.start()
        try:
            until(lambda: all(caller.numbers or caller.wrong for caller in callers), 60, "a first answer for each")
            for i in range(1, SAVES + 1):
                serve.save("program.py", COUNTED.format(number=i), atomic=bool(i % 2))
                until(lambda i=i: latest[0] >= i, 30, f"the number {i}")  # type: ignore[misc]
                assert stream.say(f"save {i}") == f"0: save {i};"
            until(lambda: all(c.wrong or c.numbers[-1] == SAVES for c in callers), 60, "the last number for each")
        finally:
            stop.set()
            for caller in callers:
                caller.join()
        # It began before the first save and ends after the last one, with the code that it began with.
        assert stream.say("after") == "0: after;"
        assert stream.end() == b""
        assert [problem for caller in callers for problem in caller.wrong] == []
        assert {number for caller in callers for number in caller.numbers} == set(range(SAVES + 1))
