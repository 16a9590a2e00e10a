"""Answer at once, work afterwards: FastAPI's background tasks run in the same container, after the answer was sent.

    $ zygo serve background.py
    $ curl "$URL?name=report"
    {"accepted":"report"}

The work's output appears in the terminal. Until it ends, the container takes no other request.
"""

import time

from fastapi import BackgroundTasks

import zygo

app = zygo.App("background", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


def work(name: str):
    time.sleep(0.5)
    print(f"finished {name}")


@app.function()
@zygo.fastapi_endpoint()
def accept(name: str, tasks: BackgroundTasks):
    tasks.add_task(work, name)
    return {"accepted": name}
