"""Gradio: an interface with a queue, its files, and a generator whose answer grows on the page.

$ zygo serve applications/gradio/serve.py
$ curl "$URL/config"
{"version":...
"""

import zygo

image = zygo.Image.debian_slim().pip_install("gradio>=5").env({"GRADIO_ANALYTICS_ENABLED": "False"})

with image.imports():
    from main import site

app = zygo.App("gradio-demo", image=image)


@app.function(max_containers=1)  # a page's requests share what one process keeps: its queue, its session, its uploads
@zygo.concurrent(max_inputs=1000)  # each open page holds a request
@zygo.asgi_app()
def web():
    return site
