"""Classes in programs of their own: deployed, and unfit to be forked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

DEPLOYED = """
import zygo

app = zygo.App("kept")


@app.cls()
class Named:
    name: str = zygo.parameter()

    @zygo.fastapi_endpoint()
    def page(self):
        return self.name * 2


@app.cls(min_containers=1)
class Old:
    def __init__(self, size):
        self.size = size

    @zygo.method()
    def get(self):
        return self.size
"""


def test_a_class_that_is_deployed_keeps_its_objects(place: Place, write: Callable[..., Path]) -> None:
    result = place.deploy(write(DEPLOYED, "kept.py"))
    try:
        url = result["urls"]["Named.page"]
        assert httpx.get(url, params={"name": "d"}, trust_env=False).json() == "dd"
        place.deploy(write(DEPLOYED.replace("self.name * 2", "self.name * 3"), "kept.py"))
        assert httpx.get(url, params={"name": "d"}, trust_env=False).json() == "ddd"
    finally:
        place.zygo("app", "stop", "kept", "--yes")


def test_snap_with_a_thread_falls_back(place: Place, write: Callable[..., Path]) -> None:
    path = write("""
        import os
        import threading
        import zygo

        app = zygo.App("unfit")

        @app.cls()
        class Unfit:
            @zygo.enter(snap=True)
            def load(self):
                self.thread = threading.Thread(target=threading.Event().wait, daemon=True)
                self.thread.start()

            @zygo.fastapi_endpoint()
            def web(self):
                return self.thread.is_alive()
        """)
    with place.serve(path) as running:
        assert running.get("Unfit.web").json() is True
        running.wait_for(r"started 1 thread\(s\)", anywhere=True)


def test_idle_loops_and_log_listeners_are_no_hindrance(place: Place, write: Callable[..., Path]) -> None:
    """Loops that an import leaves behind, one of them used later; a queue listener's thread: each container has its own."""
    path = write(
        """
        import asyncio, logging, logging.handlers, os, queue, threading
        import zygo

        asyncio.set_event_loop(asyncio.new_event_loop())
        loop = asyncio.new_event_loop()
        lines = queue.Queue()
        listener = logging.handlers.QueueListener(lines, logging.StreamHandler())
        listener.start()
        log = logging.getLogger("own")
        log.addHandler(logging.handlers.QueueHandler(lines))

        app = zygo.App("idle")

        async def elsewhere():
            return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

        @app.function(max_containers=2)
        @zygo.fastapi_endpoint()
        def used():
            log.warning("said in %s", os.environ["ZYGO_CONTAINER_ID"])
            return loop.run_until_complete(elsewhere()) != threading.get_ident()
        """
    )
    with place.serve(path) as serve, ThreadPoolExecutor(4) as threads:
        assert [answer.json() for answer in threads.map(lambda _: serve.get("used"), range(12))] == [True] * 12
        serve.wait_for("said in c-", anywhere=True)
        assert not serve.seen("cannot be forked")


def test_a_librarys_thread_is_no_hindrance_wherever_it_is_imported(place: Place, write: Callable[..., Path]) -> None:
    """numpy starts one; here only the image has it, and only a module beside the program names it."""
    write("import numpy\n\ndef total(): return int(numpy.arange(4).sum())\n", "numbers_.py")
    path = write(
        """
        import zygo

        image = zygo.Image.debian_slim().pip_install("fastapi[standard]", "numpy")
        with image.imports():
            from numbers_ import total

        app = zygo.App("library", image=image)

        @app.function()
        @zygo.fastapi_endpoint()
        def used():
            return total()
        """
    )
    with place.serve(path) as serve:
        assert serve.get("used").json() == 6
        assert not serve.seen("cannot be forked")
    place.settle(120)  # byte code of what was installed
