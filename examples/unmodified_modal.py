"""A program that was written for Modal runs as it is: here, `import modal` is zygo.

$ zygo serve unmodified_modal.py
$ curl "$URL?name=Ada"
{"hello":"Ada","local":false}
"""

import modal

app = modal.App("unmodified-modal", image=modal.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@modal.fastapi_endpoint()
def greet(name: str):
    return {"hello": name, "local": modal.is_local()}
