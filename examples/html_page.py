"""A page for people instead of data for programs: return one of FastAPI's responses.

$ zygo serve html_page.py
$ curl "$URL?name=Ada"
<!doctype html><title>Hello</title><h1>Hello, Ada!</h1>
"""

from html import escape

from fastapi.responses import HTMLResponse

import zygo

app = zygo.App("html-page", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@zygo.fastapi_endpoint()
def page(name: str = "World"):
    text = f"<!doctype html><title>Hello</title><h1>Hello, {escape(name)}!</h1>\n"
    return HTMLResponse(text, headers={"Cache-Control": "no-store"})
