"""Whole applications whose images take long to install, each driven as its users do. With TESTS_ALL=1 (scripts/test --all)."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.sync.client import connect

from e2e.applications_kit import browser_page, run_client, served

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.sync.client import ClientConnection

    from zygo.testing.harness import Place

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TESTS_ALL"), reason="takes long: scripts/test --all"),
    pytest.mark.timeout(600),
]

IMAGE_SECONDS = 400.0


GRADIO_CLIENT = """
    import sys
    from gradio_client import Client

    print(Client(sys.argv[1], verbose=False).predict("Bob", api_name="/greet"))
"""


def test_gradio_in_a_browser(place: Place, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(b"x" * 3_000_000)
    with served(place, "gradio", IMAGE_SECONDS) as serve, browser_page() as page:
        assert not serve.seen("cannot be forked"), "its idle event loops are no hindrance"
        page.goto(serve.url("web"))
        page.get_by_label("Name").fill("Ada")
        page.get_by_role("button", name="Greet").click()
        page.wait_for_function("[...document.querySelectorAll('textarea,input')].some(it => it.value === 'Hello Ada!')")
        page.get_by_role("button", name="Count").click()
        page.wait_for_function("[...document.querySelectorAll('textarea,input')].some(it => it.value === 'Ada 3')")
        page.set_input_files("input[type=file]", big)
        page.wait_for_function(
            "[...document.querySelectorAll('textarea,input')].some(it => it.value === '3000000 bytes')"
        )
        said = run_client(["gradio-client"], GRADIO_CLIENT, serve.url("web"))
        assert "Hello Bob!" in said


@pytest.mark.parametrize("kind", ["url", "hostname_url"])
def test_streamlit_in_a_browser(place: Place, tmp_path: Path, kind: str) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(b"x" * 3_000_000)
    with served(place, "streamlit", IMAGE_SECONDS) as serve, browser_page() as page:
        page.goto(getattr(serve, kind)("web") or serve.url("web"))
        page.get_by_role("heading", name="Squares").wait_for()
        page.get_by_label("Number").fill("12")
        page.get_by_label("Number").press("Enter")
        page.get_by_role("button", name="Square").click()
        page.get_by_text("The square is 144; 1 so far").wait_for()
        page.set_input_files("input[type=file]", big)
        page.get_by_text("big.bin has 3000000 bytes").wait_for()


def test_datasette_pages_and_its_api(place: Place) -> None:
    with served(place, "datasette", IMAGE_SECONDS) as serve:
        url = serve.url("web")
        assert "books" in serve.get("web").text
        query = serve.get(
            "web", path="/books.json", params={"sql": "select sum(pages) as sum from books", "_shape": "array"}
        )
        assert query.json() == [{"sum": 320}]
        table = serve.get("web", path="/books/books.json", params={"_size": 1}).json()
        assert table["next_url"].startswith(url + "/"), "URLs are those that callers use"
        assert serve.get("web", path="/books/books.csv").text.splitlines()[0] == "id,title,pages"
        assert serve.get("web", path="/-/static/app.css").status_code == 200


def run_cell(socket: ClientConnection, code: str) -> str:
    """Run a cell as a notebook does, over the kernel's WebSocket; what it printed."""
    identifier = uuid.uuid4().hex
    header = {"msg_id": identifier, "msg_type": "execute_request", "version": "5.3", "username": "", "session": "s"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message: dict[str, Any] = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
    }
    socket.send(json.dumps(message))
    printed = ""
    while True:
        got = json.loads(socket.recv(60))
        if got["parent_header"].get("msg_id") != identifier:
            continue
        if got["msg_type"] == "stream":
            printed += got["content"]["text"]
        elif got["msg_type"] == "error":
            raise AssertionError("\n".join(got["content"]["traceback"]))
        elif got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
            return printed


def test_jupyter_runs_cells(place: Place) -> None:
    with served(place, "jupyter", IMAGE_SECONDS) as serve:
        url = serve.url("web")
        assert serve.get("web", path="/api/kernels").status_code == 403
        with httpx.Client(
            base_url=url, trust_env=False, timeout=60, headers={"Authorization": "token choose-one"}
        ) as client:
            assert "JupyterLab" in client.get("/lab").text
            kernel = client.post("/api/kernels", json={"name": "python3"}).json()["id"]
            channels = f"{url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?token=choose-one"
            with connect(channels, max_size=None) as socket:
                run_cell(socket, "x = 6 * 7")
                assert run_cell(socket, "print(x, flush=True)") == "42\n"
                assert run_cell(socket, "open('made', 'w').write('here'); print(open('made').read())") == "here\n"
                run_cell(
                    socket, "import multiprocessing as m; p = m.get_context('spawn').Process(); p.start(); p.join()"
                )
            assert client.get("/api/contents/made").json()["content"] == "here"
            assert client.delete(f"/api/kernels/{kernel}").status_code == 204


MCP_CLIENT = """
    import asyncio, sys
    from mcp import Client

    async def main():
        async with Client(sys.argv[1]) as client:
            print(sorted(tool.name for tool in (await client.list_tools()).tools))
            print((await client.call_tool("add", {"a": 1, "b": 2})).content[0].text)
            steps = []
            async def progress(done, total, message):
                steps.append((done, total))
            print((await client.call_tool("count", {"upto": 3}, progress_callback=progress)).content[0].text, steps)
            print((await client.read_resource("greeting://Ada")).contents[0].text)

    asyncio.run(main())
"""


def test_mcp_by_its_own_client(place: Place) -> None:
    with served(place, "mcp", IMAGE_SECONDS) as serve:
        tools, added, counted, read = run_client(["mcp>=2"], MCP_CLIENT, f"{serve.url('web')}/mcp").splitlines()
    assert (tools, added, read) == ("['add', 'count']", "3", "Hello Ada")
    assert counted == "counted to 3 [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]"


OPENAI_CLIENT = """
    import sys
    import openai

    url, key = sys.argv[1:]
    client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)
    ask = [{"role": "user", "content": "one two three"}]
    print([model.id for model in client.models.list()])
    print(client.chat.completions.create(model="parrot", messages=ask).choices[0].message.content)
    stream = client.chat.completions.create(model="parrot", messages=ask, stream=True)
    print([chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content])
    try:
        client.chat.completions.create(model="eagle", messages=ask)
    except openai.NotFoundError as error:
        print(error.status_code)
    try:
        openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()
        print("open to all")
    except openai.AuthenticationError as error:
        print("refused", error.status_code)
"""


@pytest.mark.parametrize("function", ["web", "private"])
def test_openai_by_its_own_client(place: Place, function: str) -> None:
    made = json.loads(place.zygo("workspace", "proxy-tokens", "create", "--json").text)
    with served(place, "openai", IMAGE_SECONDS) as serve:
        said = run_client(["openai"], OPENAI_CLIENT, serve.url(function), f"{made['id']}.{made['secret']}").splitlines()
    place.zygo("workspace", "proxy-tokens", "delete", made["id"])
    assert said[:4] == ["['parrot']", "one two three ", "['one ', 'two ', 'three ']", "404"]
    assert said[4] == ("refused 401" if function == "private" else "open to all")
