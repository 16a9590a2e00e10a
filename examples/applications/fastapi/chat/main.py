import time
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from . import rooms


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.rooms = {}
    print("the chat is open")
    yield
    print("the chat is closed")


app = FastAPI(title="Chat", lifespan=lifespan)
app.include_router(rooms.router)


@app.middleware("http")
async def say_how_long(request: Request, call_next):
    began = time.perf_counter()
    response = await call_next(request)
    response.headers["Server-Timing"] = f"app;dur={(time.perf_counter() - began) * 1e3:.3f}"
    return response


@app.get("/")
async def where(request: Request):
    return {"app": request.app.title, "rooms": str(request.url_for("all_rooms"))}
