"""A whole ASGI application (FastAPI here) behind one URL, with its routes, its lifespan and its WebSockets.

$ zygo serve whole_app.py
$ curl "$URL/"
{"hits":1}
$ curl -X POST "$URL/notes?text=hi"
{"notes":["hi"]}
"""

import zygo

app = zygo.App("whole-app", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function(max_containers=1)  # what `state` holds is in one container; a database is shared by many
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    # The factory runs once in each container, so connections and clients are made here, not at the module's top level.
    from contextlib import asynccontextmanager

    from fastapi import FastAPI, WebSocket

    state = {"hits": 0, "notes": []}

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        print("up")
        yield
        print("down")

    api = FastAPI(lifespan=lifespan)

    @api.get("/")
    def hits():
        state["hits"] += 1
        return {"hits": state["hits"]}

    @api.post("/notes")
    def note(text: str):
        state["notes"].append(text)
        return {"notes": state["notes"]}

    @api.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    return api
