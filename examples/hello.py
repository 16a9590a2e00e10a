"""The smallest endpoint: a function of the query.

$ zygo serve hello.py
$ curl "$URL?x=12"
{"square":144}
"""

import zygo

image = zygo.Image.debian_slim().pip_install("fastapi[standard]")
app = zygo.App("hello", image=image)


@app.function()
@zygo.fastapi_endpoint(docs=True)  # its interactive documentation is at $URL/docs
def square(x: int):
    print(f"squaring {x}")  # appears in the terminal where `zygo serve` runs
    return {"square": x**2}
