"""What survives the server: deployed apps, their versions, ports and images."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from e2e.deploy_kit import answer, good, history, listed, number, stop_all, versions
from e2e.http_kit import HOLD, Held, ask
from zygo.testing import processes
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 60.0

HOLDING = (
    """
import os
import zygo

app = zygo.App("holding")
"""
    + HOLD
    + """
app.function(timeout=60)(zygo.concurrent(max_inputs=8)(zygo.asgi_app()(hold)))
"""
)


def built(place: Place) -> dict[str, tuple[int, float]]:
    """The inode and time of every directory that a build makes: an image that is built anew has others."""
    found = {}
    for folder in ("images", "runtime"):
        for path in [*(place.data / folder).glob("*"), *(place.data / folder).glob("*/*")]:
            if path.is_dir():
                found[str(path)] = (path.stat().st_ino, path.stat().st_mtime)
    assert found
    return found


def two_apps(place: Place, write: Callable[..., Path]) -> list[str]:
    """Two deployed apps, one of them twice; their URLs."""
    place.deploy(write(number(1, "one"), "one.py"))
    first = place.deploy(write(number(11, "one"), "one.py"))
    image = 'image=zygo.Image.debian_slim().pip_install("fastapi==0.115.6").env({"A": "1"})'
    second = place.deploy(write(number(2, "two", image), "two.py"))
    return [first["urls"]["number"], second["urls"]["number"]]


def everything_is_there(place: Place, urls: list[str], before: dict[str, tuple[int, float]]) -> None:
    assert [answer(url) for url in urls] == [11, 2]
    assert versions(place, "one") == [2, 1]
    assert [f["url"] for name in ("one", "two") for f in listed(place)[name]["functions"]] == urls
    [old] = [r["previews"]["number"] for r in history(place, "one") if r["version"] == 1]
    assert answer(old) == 1
    assert built(place) == before, "images and the guest's packages were found, not built"
    assert place.deploy(_file(place, "two"))["type"] == "unchanged"


def _file(place: Place, name: str) -> Path:
    return place.root / f"{name}.py"


def test_kill_9_of_the_server(deploys_alone: Place, write: Callable[..., Path]) -> None:
    place = deploys_alone
    place.start_server()
    urls = two_apps(place, write)
    shutil.copy(write("", "empty.py").with_name("two.py"), _file(place, "two"))
    before = built(place)
    for _ in range(2):
        place.kill_server()
        place.start_server()
        everything_is_there(place, urls, before)
    good(place, "app", "rollback", "one")
    assert [answer(url) for url in urls] == [1, 2]


def first_answer(place: Place, url: str) -> tuple[subprocess.Popen[bytes], float]:
    """A server started by hand, and the seconds from its process's start to the first answer at `url`."""
    began = time.monotonic()
    command = [place.python, "-P", "-m", "zygo.server.main", "--foreground"]
    process = subprocess.Popen(command, env=place.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answered() -> bool:
        with contextlib.suppress(OSError, Exception):
            return ask(url).status_code == 200
        return False

    until(answered, SECONDS, "the first answer")
    return process, time.monotonic() - began


def test_a_reboot(fresh_place: Place, write: Callable[..., Path]) -> None:
    """Every process is killed and the runtime directory is gone, as after a power failure."""
    place = fresh_place
    place.start_server()
    urls = two_apps(place, write)
    shutil.copy(write("", "empty.py").with_name("two.py"), _file(place, "two"))
    before = built(place)
    times = []
    process = None
    for _ in range(3):
        for each in place.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        if process is not None:
            process.wait(SECONDS)
        until(lambda: not place.processes(), SECONDS, "the end of everything")
        shutil.rmtree(place.runtime)
        process, seconds = first_answer(place, urls[0])
        times.append(seconds)
    assert process is not None
    try:
        print("first answer after a reboot:", ", ".join(f"{seconds:.2f} s" for seconds in times))
        everything_is_there(place, urls, before)
        stop_all(place)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


OLD = """
import sys
import zygo.version
zygo.version.fingerprint = lambda: "0123456789abcdef"
import zygo.server.main
zygo.server.main.fingerprint = zygo.version.fingerprint
sys.exit(zygo.server.main.main(["--foreground"]))
"""


def test_a_server_of_another_build_is_replaced_by_the_next_command(
    deploys_alone: Place, write: Callable[..., Path]
) -> None:
    place = deploys_alone
    place.start_server()
    urls = two_apps(place, write)
    place.stop_server()
    old = subprocess.Popen(
        [sys.executable, "-P", "-c", OLD],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: place.server_pid() == old.pid, SECONDS, "the old server")
    assert [answer(url) for url in urls] == [11, 2]
    said = good(place, "app", "list").text
    assert old.wait(SECONDS) == 0
    assert "Replacing the server: it runs other code of the same version" in said
    assert place.server_pid() != old.pid
    assert [answer(url) for url in urls] == [11, 2]


def test_requests_in_flight_finish_when_the_server_is_stopped(deploys_alone: Place, write: Callable[..., Path]) -> None:
    place = deploys_alone
    place.start_server()
    url = place.deploy(write(HOLDING))["urls"]["hold"]
    held = Held(url)
    try:
        assert held.container
        stopping = subprocess.Popen([*place.command, "server", "stop"], env=place.environment, stdin=subprocess.DEVNULL)
        until(lambda: "stopping: `zygo server stop`" in place.server_log(), SECONDS)
        assert held.finish()
        assert stopping.wait(SECONDS) == 0
    finally:
        held.leave()
    place.start_server()
    again = Held(url)
    assert again.finish()


def test_a_server_on_demand_stays_while_an_app_is_deployed(write: Callable[..., Path]) -> None:
    with Place({"ZYGO_IDLE_EXIT": "1"}) as place:
        url = place.deploy(write(number(1, options="scaledown_window=2")))["urls"]["number"]
        pid = place.server_pid()
        assert pid is not None
        assert not processes.wait_gone([pid], 4.0), "not while something is deployed, idle or not"
        assert answer(url) == 1
        stop_all(place)
        assert processes.wait_gone([pid], 30.0)
        place.settle()
