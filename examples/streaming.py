"""An answer that comes piece by piece: each event reaches the caller when it is made.

$ zygo serve streaming.py
$ curl -N "$URL?count=3"                        # a line each half second
data: 0...data: 1...data: 2
"""

import asyncio

from fastapi.responses import StreamingResponse

import zygo

app = zygo.App("streaming", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


async def events(count: int, pause: float):
    for i in range(count):
        yield f"data: {i}\n\n"
        await asyncio.sleep(pause)


@app.function()
@zygo.fastapi_endpoint()
async def ticks(count: int = 10, pause: float = 0.5):
    return StreamingResponse(events(count, pause), media_type="text/event-stream")
