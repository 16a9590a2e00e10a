"""A model that repeats what it was told: put yours in the place of `words`."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()
MODEL = "parrot"


class Message(BaseModel):
    role: str
    content: str


class Request(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


async def words(messages: list[Message]) -> AsyncIterator[str]:
    for word in messages[-1].content.split():
        await asyncio.sleep(0.01)
        yield word + " "


@app.get("/v1/models")
async def models():
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "zygo"}]}


@app.post("/v1/chat/completions")
async def complete(request: Request):
    if request.model != MODEL:
        raise HTTPException(404, {"message": f"there is no model {request.model!r}", "type": "invalid_request_error"})
    base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL}
    if not request.stream:
        text = "".join([word async for word in words(request.messages)])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {**base, "object": "chat.completion", "choices": [choice]}

    def event(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    async def events() -> AsyncIterator[str]:
        yield event({"role": "assistant", "content": ""})
        async for word in words(request.messages):
            yield event({"content": word})
        yield event({}, "stop")
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
