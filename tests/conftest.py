"""Fixtures for every test; what runs the real thing is in zygo.testing.harness."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from postgres_kit import Cluster
from zygo.testing.harness import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files of tests, the long ones come first: at the end none waits for another."""
    if hasattr(config, "workerinput"):
        kinds = ("e2e", "integration", "upgrade", "contract")
        order = {kind: number for number, kind in enumerate(kinds)}
        items.sort(key=lambda item: order.get(item.path.parent.name, len(kinds)))


@pytest.fixture(scope="session", autouse=True)
def clean_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the developer's reaches a test; one uv cache for the session, so each package is fetched once."""
    for name in [name for name in os.environ if name.startswith(("ZYGO_", "MODAL_"))]:
        del os.environ[name]
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # each worker has a folder of its own below the session's
    os.environ.setdefault("UV_CACHE_DIR", str(session / "uv-cache"))


@pytest.fixture(scope="session")
def shared_place() -> Iterator[Place]:
    """One server for the session, with the images that tests built on it. Use `place`."""
    with Place() as place:
        place.start_server()
        yield place


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    """The session's server. A test leaves it as it was: running, without an app; asserted here after each."""
    pid = shared_place.server_pid()
    yield shared_place
    assert shared_place.server_pid() == pid, f"the shared server did not survive the test:\n{shared_place.server_log()}"
    shared_place.settle()


@pytest.fixture
def fresh_place(shared_place: Place) -> Iterator[Place]:
    """A place of one test's own, for what kills or configures servers. Nothing may be left once its server ended.

    The guest's packages are linked from the session's place when they are there: three seconds less for each such test.
    """
    with Place() as place:
        for layer in shared_place.data.glob("runtime/[0-9]*"):
            shutil.copytree(layer, place.data / "runtime" / layer.name, copy_function=os.link, symlinks=True)
        yield place
        place.settle()
        if place.server_pid() is not None:
            place.stop_server()
        place.settle()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL for the session; a test that stops it starts it again."""
    cluster = Cluster.start()
    if cluster is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    try:
        yield cluster
    finally:
        cluster.close()
