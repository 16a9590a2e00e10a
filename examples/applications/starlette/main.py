import asyncio
import hashlib

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles


async def hello(request):
    return PlainTextResponse(f"Hello {request.path_params['name']}")


async def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse(request.session)


async def home(request):
    return RedirectResponse(request.url_for("admin:users", name="all"))


async def users(request):
    return JSONResponse(
        {"path": request.scope["path"], "root_path": request.scope["root_path"], "url": str(request.url)}
    )


async def events(request):
    async def each():
        number = 0
        try:
            while number < int(request.query_params.get("count", 10**9)):
                number += 1
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
        finally:
            print("end of the events")

    return StreamingResponse(each(), media_type="text/event-stream")


async def upload(request):
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def echo(socket):
    await socket.accept(subprotocol="shout")
    async for text in socket.iter_text():
        if text == "bye":
            await socket.close(4000, "you said so")
            return
        await socket.send_text(text.upper())


app = Starlette(
    routes=[
        Route("/", home),
        Route("/hello/{name}", hello),
        Route("/visits", visits),
        Route("/events", events),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/echo", echo),
        Mount("/admin", name="admin", routes=[Route("/users/{name}", users, name="users")]),
        Mount("/static", StaticFiles(directory="static")),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key="put this into a zygo.Secret"), Middleware(GZipMiddleware)],
)
