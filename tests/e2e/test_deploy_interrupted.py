"""Deploys that are interrupted, killed, or made at the same time: always one whole version, and the history agrees."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from typing import TYPE_CHECKING

from e2e.deploy_kit import answer, deploying, good, history, number, versions
from zygo.testing.harness import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

SECONDS = 60.0


def interrupted(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; what it had printed."""
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


def test_ctrl_c_while_the_image_is_built(deploys: Place, write: Callable[..., Path]) -> None:
    url = deploys.deploy(write(number(1)))["urls"]["number"]
    # An index that never answers: the build is under way for as long as the test wants.
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(SECONDS)
        where = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        image = f'zygo.Image.debian_slim().pip_install("never-there", index_url="{where}")'
        process = deploying(deploys, write(number(2, options=f"image={image}")))
        connection, _ = index.accept()
        interrupted(process)
        with connection:
            connection.settimeout(SECONDS)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(65536):  # the builder's process is gone
                    pass
    assert answer(url) == 1
    assert versions(deploys, "number") == [1]
    assert deploys.deploy(write(number(3)))["version"] == 2, "nothing is held by the one that was interrupted"


def test_ctrl_c_while_a_container_must_prove_itself(deploys: Place, write: Callable[..., Path]) -> None:
    url = deploys.deploy(write(number(1)))["urls"]["number"]
    slow = f"""

@app.function()
@zygo.asgi_app()
def slow():
    import pathlib, time
    print("begins", flush=True)
    time.sleep({SECONDS})
"""
    process = deploying(deploys, write(number(2, more=slow)))
    log = deploys.data / "logs" / "apps" / "number" / "log.jsonl"
    until(lambda: log.exists() and "begins" in log.read_text(), SECONDS, "the second function's start")
    interrupted(process)
    assert answer(url) == 1
    assert versions(deploys, "number") == [1]
    assert deploys.deploy(write(number(3)))["version"] == 2


def test_a_command_killed_at_any_moment_leaves_one_whole_version(deploys: Place, write: Callable[..., Path]) -> None:
    began = time.monotonic()
    url = deploys.deploy(write(number(0)), "--tag", "n0")["urls"]["number"]
    usual = time.monotonic() - began
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for value in range(1, 7):
        before = history(deploys, "number")[0]["version"]
        process = deploying(deploys, write(number(value)), "--tag", f"n{value}")
        with contextlib.suppress(Exception):
            process.communicate(timeout=moments.uniform(0.2, 1.0) * usual)
        process.kill()
        process.communicate()
        # A change of the same app comes after the killed one has ended, however that was.
        good(deploys, "app", "rollover", "number")
        newest = history(deploys, "number")[0]
        assert newest["active"], seed
        assert newest["version"] - before in (0, 1), seed
        assert newest["by"]["tag"] == f"n{answer(url)}", seed


def test_two_deploys_of_one_app_at_the_same_time(deploys: Place, write: Callable[..., Path]) -> None:
    url = deploys.deploy(write(number(1)))["urls"]["number"]
    both = [deploying(deploys, write(number(n), f"p{n}.py"), "--tag", f"n{n}") for n in (2, 3)]
    said = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(versions(deploys, "number")) == [1, 2, 3]
    assert history(deploys, "number")[0]["by"]["tag"] == f"n{answer(url)}"


def test_two_first_deploys_of_one_app_at_the_same_time(deploys: Place, write: Callable[..., Path]) -> None:
    both = [deploying(deploys, write(number(n, "fresh"), f"p{n}.py"), "--tag", f"n{n}") for n in (1, 2)]
    said = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert versions(deploys, "fresh") == [2, 1]


def test_two_apps_that_want_the_same_label_at_the_same_time(deploys: Place, write: Callable[..., Path]) -> None:
    """Only one can have it, whoever comes first; the other is told whose it is."""

    def program(value: int) -> str:
        return number(value, f"rival{value}").replace("fastapi_endpoint()", 'fastapi_endpoint(label="contested")')

    for attempt in range(2):
        both = [deploying(deploys, write(program(n), f"p{n}.py"), "--json") for n in (1, 2)]
        said = [process.communicate(timeout=SECONDS)[0] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 1], (attempt, said)
        winner, loser = codes.index(0) + 1, codes.index(1) + 1
        assert f"belongs to rival{winner}.number already" in said[loser - 1]
        port = deploys.status()["gateway"]["port"]  # type: ignore[index]
        assert answer(f"http://local--contested.localhost:{port}") == winner
        good(deploys, "app", "stop", "--yes", f"rival{winner}")


def test_a_command_whose_terminal_is_gone_leaves_nothing(deploys: Place, write: Callable[..., Path]) -> None:
    """SIGHUP and a closed pipe, before anything was sent: as good as never begun, or done."""
    process = deploying(deploys, write(number(1, "hung")))
    assert process.stdout is not None
    process.stdout.close()
    os.kill(process.pid, signal.SIGHUP)
    process.wait(SECONDS)
    deploys.deploy(write(number(2, "hung")))
    assert history(deploys, "hung")[0]["active"]
