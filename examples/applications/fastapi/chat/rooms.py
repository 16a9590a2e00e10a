from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, UploadFile, WebSocket, WebSocketException
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

router = APIRouter(prefix="/rooms", tags=["rooms"])


class Room(BaseModel):
    name: str
    owner: str
    messages: list[str] = []


def user(x_user: Annotated[str | None, Header()] = None) -> str:
    if x_user is None:
        raise HTTPException(401, "say who you are: X-User")
    return x_user


def all_of(connection: HTTPConnection) -> dict[str, tuple[Room, set[WebSocket]]]:
    return connection.app.state.rooms


User = Annotated[str, Depends(user)]
Rooms = Annotated[dict[str, tuple[Room, set[WebSocket]]], Depends(all_of)]


@router.get("")
async def all_rooms(rooms: Rooms):
    return {"rooms": sorted(rooms)}


@router.post("/{name}")
async def open_room(name: str, user: User, rooms: Rooms) -> Room:
    return rooms.setdefault(name, (Room(name=name, owner=user), set()))[0]


@router.get("/{name}/messages")
async def messages(name: str, rooms: Rooms):
    if name not in rooms:
        raise HTTPException(404, f"there is no room {name}")
    return StreamingResponse((f"data: {text}\n\n" for text in rooms[name][0].messages), media_type="text/event-stream")


@router.post("/{name}/files")
async def upload(name: str, file: UploadFile, user: User):
    size = 0
    while chunk := await file.read(1 << 20):
        size += len(chunk)
    return {"room": name, "from": user, "file": file.filename, "size": size}


@router.websocket("/{name}/chat")
async def chat(socket: WebSocket, name: str, user: str, rooms: Rooms):
    if name not in rooms:
        raise WebSocketException(4404, f"there is no room {name}")
    room, present = rooms[name]
    await socket.accept()
    present.add(socket)
    try:
        async for text in socket.iter_text():
            room.messages.append(f"{user}: {text}")
            for other in list(present):
                await other.send_text(room.messages[-1])
    finally:
        present.discard(socket)
