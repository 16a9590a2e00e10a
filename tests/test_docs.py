"""The manual is true: what can be used is in it, links lead somewhere, programs are apps.

A block marked ```python app is evaluated as `zygo serve` would; without an App of its own it goes below HEAD.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import typer.main

import zygo
from zygo import errors
from zygo.cli.later import COMMANDS
from zygo.cli.main import app as command
from zygo.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
REFERENCE = ROOT / "docs" / "reference"

HEAD = """\
import zygo

app = zygo.App("docs", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))
"""

EVALUATE = """\
import os, sys
from zygo import loader
from zygo.cli.main import app  # the command's import hook
from zygo import alias
alias.install()
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            spec = loader.evaluate(loader.parse_ref(name)).app
            assert spec.functions or "Image" in open(name).read(), "no function"
            os._exit(0)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}\\n{getattr(error, 'traceback', '')}", flush=True)
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(1)
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def table_row(page: str, first: str) -> list[str]:
    """The cells of the row of a table whose first cell holds `first` in backquotes."""
    for line in (REFERENCE / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and f"`{first}`" in cells[0]:
            return cells
    raise AssertionError(f"docs/reference/{page} has no row for `{first}`")


@pytest.mark.parametrize("name", list(Settings.fields))
def test_every_setting_is_in_the_reference(name: str) -> None:
    field = Settings.fields[name]
    _, default, meaning = table_row("settings.md", f"ZYGO_{name.upper()}")
    assert meaning == field.description
    if not callable(field.default):
        assert default == f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def test_the_reference_has_no_setting_that_is_gone() -> None:
    named = set(re.findall(r"^\| `ZYGO_(\w+)`", (REFERENCE / "settings.md").read_text(), re.MULTILINE))
    assert named == {name.upper() for name in Settings.fields}
    mentioned = {found for page in PAGES for found in re.findall(r"\bZYGO_[A-Z_]+[A-Z]\b", page.read_text())}
    known = {f"ZYGO_{name.upper()}" for name in Settings.fields}
    of_commands = {"ZYGO_SERVER", "ZYGO_TOKEN", "ZYGO_PROFILE", "ZYGO_SSH", "ZYGO_ENVIRONMENT"}
    assert mentioned - known - of_commands == {
        "ZYGO_APP",
        "ZYGO_FUNCTION",
        "ZYGO_REVISION",
        "ZYGO_CONTAINER_ID",
        "ZYGO_IS_REMOTE",
    }


def all_commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    def walk(path: str, group: object) -> Iterator[tuple[str, typer.core.TyperCommand]]:
        children = getattr(group, "commands", None)
        if children is None:
            assert isinstance(group, typer.core.TyperCommand)
            yield path, group
            return
        for name, child in children.items():
            if not child.hidden:
                yield from walk(f"{path} {name}", child)

    yield from walk("zygo", typer.main.get_command(command))


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[0]


@pytest.mark.parametrize(
    ("path", "found"), list(all_commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_option_is_in_the_reference(path: str, found: typer.core.TyperCommand) -> None:
    text = (REFERENCE / "cli.md").read_text()
    own = section(text, path)
    everywhere = text[: text.index("## ")]
    for parameter in found.params:
        if parameter.param_type_name == "option":
            for option in [*parameter.opts, *parameter.secondary_opts]:
                assert f"`{option}" in own or f"`{option}`" in everywhere, f"{path} {option}"


def test_every_command_of_later_is_named() -> None:
    later = section((REFERENCE / "cli.md").read_text(), "Later")
    assert set(re.findall(r"`(\w+)`", later)) == set(COMMANDS)


def error_classes() -> list[type]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    ]


@pytest.mark.parametrize("cls", error_classes())
def test_every_error_is_in_the_reference(cls: type) -> None:
    text = (REFERENCE / "errors.md").read_text()
    assert f"`{cls.__name__}`" in text
    if issubclass(cls, errors.Error):
        _, exit_code, status, meaning = table_row("errors.md", cls.__name__)
        assert (exit_code, status) == (str(cls.exit_code), str(cls.http_status))
        assert meaning == (cls.__doc__ or "").split("\n")[0]


@pytest.mark.parametrize("name", sorted({*zygo.__all__, *zygo._HOMES}))
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in (REFERENCE / "sdk.md").read_text()


@pytest.mark.parametrize(
    "cls", [zygo.App, zygo.Cls, zygo.Function, zygo.Image, zygo.Secret], ids=lambda cls: cls.__name__
)
def test_every_method_is_in_the_reference(cls: type) -> None:
    text = section((REFERENCE / "sdk.md").read_text(), cls.__name__)
    missing = [
        name
        for name, value in vars(cls).items()
        if not name.startswith("_") and not is_refused(name, value) and f".{name}" not in text and name not in PLUMBING
    ]
    assert missing == []


PLUMBING = {
    *(
        "notice",
        "notices",
        "warnings",
        "specs",
        "callables",
        "owners",
        "variant",
        "batch",
        "functions",
        "method_of",
        "spec",
        "resolve",
        "derives_from",
        "policy",
        "resources",
        "include_source",
        "serve_in",
        "app_name",
        "check_call",
    ),
    "function",  # has a section of its own
}
"""Methods between the SDK and the loader."""


def is_refused(name: str, value: object) -> bool:
    """Whether it only says that it comes later."""
    function = getattr(value, "__func__", value)
    documentation = (getattr(function, "__doc__", "") or "").strip()
    return documentation.startswith("Not supported yet") or type(value).__name__.strip("_") == "Later"


def test_every_parameter_of_app_function_is_in_the_reference() -> None:
    import inspect

    text = section((REFERENCE / "sdk.md").read_text(), "app.function")
    parameters = inspect.signature(zygo.App.function).parameters
    names = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_route_of_the_control_api_is_in_the_reference() -> None:
    from starlette.routing import Route

    from zygo.server.api import build_api

    text = (REFERENCE / "control-api.md").read_text()
    server = SimpleNamespace(tokens=None, audit=None, settings=Settings())
    for route in build_api(server).routes:  # type: ignore[arg-type]
        if not isinstance(route, Route):
            continue
        methods = sorted(getattr(route, "methods", set()) - {"HEAD"})
        path = getattr(route, "path", "").replace(":path}", "}")
        assert any(f"## {method} {path}\n" in text for method in methods), f"{methods} {path}"


# -- links -------------------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), f"{target} in {name_of(page)}"
        if anchor:
            assert anchor in anchors(path), f"{target} in {name_of(page)}"


def test_every_page_is_linked_from_the_table_of_contents() -> None:
    contents = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "README.md":
            assert f"({page.relative_to(ROOT / 'docs').as_posix()})" in contents


def test_every_example_is_listed() -> None:
    listed = set(
        re.findall(r"^\| \[[\w./]+\]\(([\w./]+)\)", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    )
    folder = ROOT / "examples"
    there = {path for path in folder.iterdir() if not path.name.startswith(("_", ".", "README", "applications"))}
    there |= set(folder.glob("applications/*/serve.py"))
    assert listed == {path.relative_to(folder).as_posix() for path in there}


def test_files_that_pages_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:tests|scripts|examples|benchmarks)/[\w./]+)`", page.read_text()):
            assert (ROOT / path).exists(), f"{path} in {name_of(page)}"


# -- programs ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Block:
    page: Path
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    text = page.read_text()
    for match in re.finditer(r"^```python(?: (app))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1]:
            found.append(Block(page, text[: match.start()].count("\n") + 1, match[2]))
    return found


WITH_BLOCKS = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_the_programs_of_a_page_are_apps(page: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("config.toml", "data/a.csv", "requirements.txt", ".env"):
        (tmp_path / name).write_text("")
    programs = []
    for block in blocks(page):
        text = block.text
        if "import zygo" not in text and "import modal" not in text:
            text = (HEAD if "zygo.App(" not in text else "import zygo\n") + text
        path = tmp_path / f"line_{block.line}.py"
        path.write_text(text)
        programs.append(path.name)
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, *programs], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_program_is_the_first_example() -> None:
    """What the README shows, the start page teaches and the quickstart serves is one program."""
    readme, start = blocks(ROOT / "README.md")[0].text, blocks(ROOT / "docs" / "start.md")[0].text
    example = (ROOT / "examples" / "hello.py").read_text()
    assert readme == start

    def essence(text: str) -> str:
        text = re.sub(r'^""".*?"""\n', "", text, flags=re.DOTALL)
        return re.sub(r"  #.*", "", text).replace("docs=True", "").strip()

    assert essence(readme) == essence(example)


def test_the_changelog_has_this_version() -> None:
    assert f"## {zygo.__version__}" in (ROOT / "CHANGELOG.md").read_text()
