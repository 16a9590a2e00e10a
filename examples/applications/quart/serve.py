"""Quart: Flask's ways, asynchronous: a WebSocket, server-sent events, background tasks, and things to do before and after.

$ zygo serve applications/quart/serve.py
$ curl "$URL/"
{"started":true}
$ curl "$URL/hello/Ada"
<p>Hello Ada</p>
"""

import zygo

image = zygo.Image.debian_slim().pip_install("quart")

with image.imports():
    from main import app as site

app = zygo.App("quart-site", image=image)


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=1000)
@zygo.asgi_app()
def web():
    return site
