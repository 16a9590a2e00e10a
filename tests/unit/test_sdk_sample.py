"""The curl line of an endpoint: made from its signature, quoted for a shell, accepted by the endpoint itself."""

from __future__ import annotations

import asyncio
import datetime  # noqa: TC003 - FastAPI evaluates the annotations
import enum
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import httpx
import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    Query,
    Request,
    UploadFile,
)
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from zygo.model import WebSpec
from zygo.sdk import sample

if TYPE_CHECKING:
    from collections.abc import Callable


class Address(BaseModel):
    street: str = Field(min_length=7)
    number: int = Field(ge=5)


class Item(BaseModel):
    name: str
    qty: int = 42
    tags: list[str]
    address: Address
    note: str | None = None


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    label: str = "p"


class Options(TypedDict):
    verbose: bool


def by_type(x: int, y: float, flag: bool, day: datetime.date, who: str, lit: Literal["b", "a"]) -> Any:
    return x


def with_defaults(name: str = "World", n: int | None = None, colour: Colour = Colour.RED) -> Any:
    return name


def bounded(a: Annotated[int, Query(gt=10)], b: Annotated[str, Query(max_length=2)], c: float = Query(lt=0)) -> Any:
    return a


def several(ids: list[int] = Query()) -> Any:  # noqa: B008
    return ids


def path_and_query(id: int, q: str) -> Any:
    return id


def free_form(item: dict[str, Any]) -> Any:
    return {"square": item["x"] ** 2, "who": item["name"].upper(), "n": item.get("n", 7), "up": item["title"] + "!"}


def model(item: Item) -> Any:
    return item.name


def models(items: list[Item]) -> Any:
    return items[0].name


def point(point: Point, options: Options) -> Any:
    return point.x


def bodies(a: int = Body(), b: str = Body()) -> Any:
    return a


def embedded(a: Annotated[int, Body(embed=True)]) -> Any:
    return a


def form(name: Annotated[str, Form()], times: int = Form(3)) -> Any:
    return name * times


def upload(file: UploadFile, title: str = Form()) -> Any:
    return title


def upload_bytes(content: Annotated[bytes, File()]) -> Any:
    return len(content)


def token(x_token: str = Header(), session: str = Cookie()) -> Any:
    return x_token + session


def query_of(q: str) -> str:
    return q


def injected(request: Request, tasks: BackgroundTasks, n: int, found: Any = Depends(query_of)) -> Any:  # noqa: B008
    return n


def untyped(x):  # type: ignore[no-untyped-def]
    return x


def nothing() -> Any:
    return None


CASES: list[tuple[Callable[..., Any], str, str]] = [
    (by_type, "GET", "?x=1&y=1.5&flag=true&day=2026-01-31&who=hello&lit=b"),
    (with_defaults, "GET", "?name=World&colour=red"),
    (bounded, "GET", "?a=11&b=he&c=-0.5"),
    (several, "GET", "?ids=1"),
    (free_form, "POST", """{"x": 1, "name": "Ada", "n": 7, "title": "hello"}"""),
    (
        model,
        "POST",
        """{"name": "Ada", "qty": 42, "tags": ["hello"], "address": {"street": "hellohe", "number": 5}}""",
    ),
    (
        models,
        "PUT",
        """[{"name": "Ada", "qty": 42, "tags": ["hello"], "address": {"street": "hellohe", "number": 5}}]""",
    ),
    (point, "POST", """{"point": {"x": 1.5, "label": "p"}, "options": {"verbose": true}}"""),
    (bodies, "POST", """{"a": 1, "b": "hello"}"""),
    (embedded, "POST", """{"a": 1}"""),
    (form, "POST", "-F name=Ada -F times=3"),
    (upload, "POST", "-F title=hello -F 'file=hello;filename=hello.txt'"),
    (upload_bytes, "POST", "-F 'content=hello;filename=hello.txt'"),
    (token, "GET", "-H 'x-token: hello' -b session=hello"),
    (untyped, "GET", "?x=1"),
    (nothing, "GET", ""),
]


@pytest.mark.parametrize(("function", "method", "expected"), CASES, ids=lambda v: getattr(v, "__name__", None))
def test_the_sample_and_that_fastapi_accepts_it(function: Callable[..., Any], method: str, expected: str) -> None:
    text = sample.of(function, WebSpec("fastapi_endpoint", method))
    if expected.startswith(("{", "[")):
        expected = f"-H 'Content-Type: application/json' -d '{expected}'"
    assert text == expected
    assert request(function, "/", method, text) == 200


def test_a_path_is_filled_in() -> None:
    text = sample.of(path_and_query, WebSpec("fastapi_endpoint", path="/items/{id:int}"))
    assert text == "/items/1?q=hello"
    assert request(path_and_query, "/items/{id:int}", "GET", text) == 200


def test_what_fastapi_injects_is_left_out() -> None:
    assert sample.of(injected, WebSpec("fastapi_endpoint")) == "?n=1"


def test_without_the_types_there_is_no_sample() -> None:
    def handler(item: Missing, x: int) -> None:  # type: ignore[name-defined] # noqa: F821
        pass

    assert sample.of(handler, WebSpec("fastapi_endpoint")) == ""


def test_an_asgi_application_has_none() -> None:
    assert sample.of(nothing, WebSpec("asgi_app")) == ""


def test_shell_characters_are_quoted() -> None:
    def handler(item: dict[str, Any]) -> Any:
        return item.get("it's $HOME", 'a`b`"c"')

    assert shlex.split(sample.of(handler, WebSpec("fastapi_endpoint", "POST")))[-1] == (
        '{"it\'s $HOME": "a`b`\\"c\\""}'
    )


def request(function: Callable[..., Any], path: str, method: str, text: str) -> int:
    """Send what the sample says, as curl would."""
    app = FastAPI()
    app.add_api_route(path, function, methods=[method])
    target, _, options = text.partition(" ") if text.startswith(("?", "/")) else ("", "", text)
    headers, cookies, files, data, content = {}, {}, {}, {}, None
    words = shlex.split(options)
    for option, value in zip(words[::2], words[1::2], strict=True):
        name, _, rest = value.partition("=")
        if option == "-H":
            headers[value.partition(": ")[0]] = value.partition(": ")[2]
        elif option == "-b":
            cookies[name] = rest
        elif option == "-d":
            content = value
        elif ";filename=" in rest:
            files[name] = ("hello.txt", rest.partition(";")[0].encode())
        else:
            data[name] = rest
    url = target if target.startswith("/") else "/" + target

    async def send() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", cookies=cookies) as client:
            answer = await client.request(
                method, url, headers=headers, content=content, data=data or None, files=files or None
            )
            return answer.status_code

    return asyncio.run(send())
