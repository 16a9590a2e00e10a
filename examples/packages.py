"""An image with packages of its own. Nothing but zygo has to be installed where the command runs.

$ zygo serve packages.py
$ curl "$URL?count=123456789"
{"size":"123.5 MB","version":"4..."}
"""

import zygo

image = zygo.Image.debian_slim().pip_install("fastapi[standard]", "humanize>=4.9")

# This machine may not have humanize; the image does. What fails to import inside this block is only missing here.
with image.imports():
    import humanize

app = zygo.App("packages", image=image)


@app.function()
@zygo.fastapi_endpoint()
def size(count: int):
    return {"size": humanize.naturalsize(count), "version": humanize.__version__}
