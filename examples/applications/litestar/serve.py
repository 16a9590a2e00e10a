"""Litestar: a controller with dependencies, typed bodies, a listener on WebSockets, its OpenAPI pages.

$ zygo serve applications/litestar/serve.py
$ curl "$URL/books"
[]
$ curl "$URL/books" --json '{"title":"Ficciones","pages":174}'  # status 201
{"title":"Ficciones","pages":174}
$ curl "$URL/books" --json '{"title":"Ficciones"}'  # status 400
{"status_code":400,...
"""

import zygo

image = zygo.Image.debian_slim().pip_install("litestar")

with image.imports():
    from main import app as books

app = zygo.App("litestar-books", image=image)


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=1000)
@zygo.asgi_app()
def web():
    return books
