from dataclasses import dataclass

from litestar import Controller, Litestar, Request, get, post, websocket_listener
from litestar.di import Provide
from litestar.response import ServerSentEvent


@dataclass
class Book:
    title: str
    pages: int


class Shelf:
    def __init__(self):
        self.books: list[Book] = []


async def shelf(request: Request) -> Shelf:
    return request.app.state.shelf


class Books(Controller):
    path = "/books"
    dependencies = {"shelf": Provide(shelf)}

    @get()
    async def all_of_them(self, shelf: Shelf) -> list[Book]:
        return shelf.books

    @post()
    async def add(self, data: Book, shelf: Shelf, request: Request) -> Book:
        shelf.books.append(data)
        request.logger.warning("a new book: %s", data.title)
        return data


@get("/where")
async def where(request: Request) -> dict[str, str]:
    return {"url": str(request.url), "books": str(request.base_url)}


@get("/events")
async def events() -> ServerSentEvent:
    return ServerSentEvent(iter(["one", "two"]))


@websocket_listener("/echo")
async def echo(data: dict[str, str]) -> dict[str, str]:
    return {key: value.upper() for key, value in data.items()}


async def open_shelf(app: Litestar) -> None:
    app.state.shelf = Shelf()


async def close_shelf(app: Litestar) -> None:
    print("closed with", len(app.state.shelf.books), "books")


app = Litestar([Books, where, events, echo], on_startup=[open_shelf], on_shutdown=[close_shelf])
