"""Many requests in one container at once: right for handlers that mostly wait.

    $ zygo serve many_at_once.py
    $ seq 20 | xargs -P 20 -I{} curl "$URL"         # half a second for all of them
    {"container":"c-...","at_once":...

Without `@zygo.concurrent` each of them would get a container of its own.
"""

import asyncio
import os

import zygo

app = zygo.App("many-at-once", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))

running = 0


@app.function()
@zygo.concurrent(max_inputs=50, target_inputs=20)  # more containers from 20 on; never more than 50 in one
@zygo.fastapi_endpoint()
async def wait(seconds: float = 0.5):
    global running
    running += 1
    at_once = running
    await asyncio.sleep(seconds)
    running -= 1
    return {"container": os.environ["ZYGO_CONTAINER_ID"], "at_once": at_once}
