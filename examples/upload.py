"""Forms and file uploads, as FastAPI has them.

$ zygo serve upload.py
$ curl -F title=Notes -F file=@upload.py "$URL"
{"title":"Notes","name":"upload.py","bytes":...}
"""

from typing import Annotated

from fastapi import Form, UploadFile

import zygo

app = zygo.App("upload", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@zygo.fastapi_endpoint(method="POST")
async def receive(title: Annotated[str, Form()], file: UploadFile):
    size = 0
    while chunk := await file.read(1 << 20):  # a piece at a time: the file may be larger than the memory
        size += len(chunk)
    return {"title": title, "name": file.filename, "bytes": size}
