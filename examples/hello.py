"""The smallest zygo app: `zygo serve examples/hello.py`, then open the URL with ?x=12 behind it."""

import zygo

image = zygo.Image.debian_slim().pip_install("fastapi[standard]")
app = zygo.App("hello", image=image)


@app.function()
@zygo.fastapi_endpoint()
def square(x: int = 12) -> dict[str, int]:
    return {"square": x**2}
