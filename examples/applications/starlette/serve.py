"""Starlette: a session, static files, server-sent events, an upload that is read as it comes, a WebSocket with a subprotocol.

$ zygo serve applications/starlette/serve.py
$ curl "$URL/hello/Ada"
Hello Ada
$ curl "$URL/static/style.css"
body { color: teal }
$ curl "$URL/events?count=2"
data: 1...
"""

from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = (
    zygo.Image.debian_slim()
    .pip_install("starlette", "itsdangerous", "python-multipart")
    .add_local_dir(HERE / "static", "/root/static")
)

with image.imports():
    from main import app as site

app = zygo.App("starlette-site", image=image)


@app.function()
@zygo.concurrent(max_inputs=1000)
@zygo.asgi_app()
def web():
    return site
