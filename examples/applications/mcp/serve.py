"""A server of the Model Context Protocol over streamable HTTP: tools and resources for programs that speak with models.

$ zygo serve applications/mcp/serve.py
$ curl "$URL/healthz"
ok

Its address for clients is $URL/mcp
"""

import zygo

image = zygo.Image.debian_slim().pip_install("mcp>=2")

with image.imports():
    from main import site

app = zygo.App("mcp-tools", image=image)


@app.function(max_containers=1)  # a client's session is one container's; stateless_http=True has none
@zygo.concurrent(max_inputs=1000)  # each client holds a stream
@zygo.asgi_app()
def web():
    return site
