"""A deploy that fails, at whichever step: it says which and why, and what was deployed before goes on."""

from __future__ import annotations

import shlex
import sqlite3
from typing import TYPE_CHECKING

import pytest

from e2e.deploy_kit import answer, deploying, history, listed, number, refused, versions
from zygo.testing.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zygo.testing.harness import Place

PAIR = (
    number(1, "pair")
    + """

@app.function()
@zygo.asgi_app()
def second():
    raise ValueError("the second one has a bad day")
"""
)

NAMELESS = number(7).replace('zygo.App("number")', "zygo.App()")

UNCHANGED = "Nothing was changed: v1 goes on."


@pytest.fixture
def url(deploys: Place, write: Callable[..., Path]) -> Iterator[str]:
    """The URL of `number`, deployed as v1 with the answer 1. After the test that must still be so."""
    found = deploys.deploy(write(number(1)))["urls"]["number"]
    yield found
    assert answer(found) == 1
    assert versions(deploys, "number") == [1]


def test_a_program_that_does_not_import(deploys: Place, url: str, write: Callable[..., Path]) -> None:
    said = refused(deploys, "deploy", str(write(number(2) + "\nimport no_such_module_at_all\n")))
    assert "no_such_module_at_all" in said
    assert "program.py" in said


def test_a_program_that_imports_here_and_not_in_a_container(
    deploys: Place, url: str, write: Callable[..., Path]
) -> None:
    more = '\n\nif not zygo.is_local():\n    raise RuntimeError("not in here")\n'
    said = refused(deploys, "deploy", str(write(number(2, more=more))))
    assert "import" in said.splitlines()[0]
    assert "RuntimeError: not in here" in said
    assert "program.py" in said, "with the user's traceback"
    assert UNCHANGED in said


def test_an_image_that_cannot_be_built(deploys: Place, url: str, write: Callable[..., Path]) -> None:
    image = 'zygo.Image.debian_slim().pip_install("colorama==99.99")'
    said = refused(deploys, "deploy", str(write(number(2, options=f"image={image}"))))
    assert "pip_install" in said
    assert "colorama==99.99" in said
    assert UNCHANGED in said


def test_one_of_two_functions_cannot_start(deploys: Place, write: Callable[..., Path]) -> None:
    first = deploys.deploy(write(PAIR.replace("raise ValueError", "return web  #").replace("import os", WEB)))
    assert answer(first["urls"]["second"]) == "second"
    said = refused(deploys, "deploy", str(write(PAIR.replace("return 1", "return 2"))))
    assert "start: second could not start: ValueError: the second one has a bad day" in said
    assert "in second" in said, "with the user's traceback"
    assert UNCHANGED in said
    assert (answer(first["urls"]["number"]), answer(first["urls"]["second"])) == (1, "second")
    assert versions(deploys, "pair") == [1]


WEB = """
import os
from fastapi import FastAPI

web = FastAPI()
web.get("/")(lambda: "second")
"""


def test_nothing_of_a_failed_first_deploy_stays(deploys: Place, write: Callable[..., Path]) -> None:
    said = refused(deploys, "deploy", str(write(PAIR.replace('App("pair")', 'App("never")'))))
    assert "the second one has a bad day" in said
    assert "Nothing was deployed." in said
    assert "never" not in listed(deploys)
    assert "no deployed app 'never'" in refused(deploys, "app", "history", "never")


def test_an_app_without_a_name_is_refused_with_the_command_that_names_it(
    deploys: Place, write: Callable[..., Path]
) -> None:
    file = write(NAMELESS, "my program.py")
    said = refused(deploys, "deploy", file.name, cwd=file.parent)
    [command] = [line.strip() for line in said.splitlines() if line.strip().startswith("zygo deploy")]
    done = deploys.zygo(*shlex.split(command)[1:], cwd=file.parent)
    assert done.code == 0, f"{command}: {done.text}"
    assert versions(deploys, shlex.split(command)[-1]) == [1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strategy", "sideways"), ("sideways", "rolling", "recreate")),
        (("--tag", "not a tag"), ("not a tag", "letters, digits, dashes")),
        (("--tag", "x" * 51), ("50",)),
        (("--name", "no/name"), ("no/name", "letters, digits, dashes", "Use 'no-name'")),
    ],
)
def test_bad_options_are_named(
    deploys: Place, url: str, write: Callable[..., Path], options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = refused(deploys, "deploy", str(write(number(2))), *options)
    assert all(word in said for word in words), said


def test_a_hostname_that_belongs_to_another_app(deploys: Place, url: str, write: Callable[..., Path]) -> None:
    labelled = number(2, "other").replace("fastapi_endpoint()", 'fastapi_endpoint(label="number-number")')
    said = refused(deploys, "deploy", str(write(labelled)))
    assert "local--number-number.localhost" in said
    assert "other.number belongs to number.number" in said
    assert "label=" in said


def test_a_database_that_another_process_locks(deploys: Place, url: str, write: Callable[..., Path]) -> None:
    """A short lock is waited for; a long one is an error that names the file. Requests are answered meanwhile."""
    database = sqlite3.connect(deploys.data / "zygo.db", isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN IMMEDIATE")
        said = refused(deploys, "deploy", str(write(number(2))))
        assert "record" in said.splitlines()[0]
        assert str(deploys.data / "zygo.db") in said
        assert "locked by another process" in said
        assert UNCHANGED in said
        assert answer(url) == 1

        other = deploying(deploys, write(number(3, "patient"), "patient.py"))
        until(lambda: any(p.kind == "container" for p in deploys.processes()), what="the container that proves it")
        assert answer(url) == 1
        assert other.poll() is None
        database.execute("ROLLBACK")
        said, _ = other.communicate(timeout=60)
        assert other.returncode == 0, said
        assert [r["version"] for r in history(deploys, "patient")] == [1]
    finally:
        database.close()
