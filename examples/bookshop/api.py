import zygo

from .catalogue import by_author

app = zygo.App("bookshop", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@zygo.fastapi_endpoint()
def search(author: str):
    return {"books": by_author(author)}
