"""A FastAPI project of several modules: routers, middleware, dependencies, a lifespan and a chat over WebSockets.

$ zygo serve applications/fastapi/serve.py
$ curl "$URL/rooms"
{"rooms":[]}
$ curl -X POST "$URL/rooms/tea"  # status 401
{"detail":"say who you are: X-User"}
$ curl -X POST "$URL/rooms/tea" -H "X-User: Ada"
{"name":"tea","owner":"Ada","messages":[]}

The chat of a room is a WebSocket at /rooms/tea/chat?user=Ada.
"""

import zygo

image = zygo.Image.debian_slim().pip_install("fastapi[standard]")

with image.imports():  # once, before any request, instead of in each container
    from chat.main import app as chat

app = zygo.App("fastapi-chat", image=image)


@app.function(max_containers=1)  # who is in a room is known to one container; with more, put it into Redis or the like
@zygo.concurrent(max_inputs=1000)
@zygo.asgi_app()
def web():
    return chat
