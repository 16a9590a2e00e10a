"""FastHTML: a to-do list, of which HTMX changes parts.

$ zygo serve applications/fasthtml/serve.py
$ curl "$URL/"
<!doctype html>...<h1>To do</h1>...
$ curl -d title=tea -H "HX-Request: true" "$URL/"
<li id="todo-1">...tea...
"""

import zygo

image = zygo.Image.debian_slim().pip_install("python-fasthtml")

with image.imports():
    from main import app as todo

app = zygo.App("fasthtml-todo", image=image)


@app.function(max_containers=1)
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    return todo
