"""An endpoint that OpenAI's clients can use: /v1/models and /v1/chat/completions, streamed or at once.

$ zygo serve applications/openai/serve.py
$ curl "$URL/v1/models"
{"object":"list","data":[{"id":"parrot",...
$ curl "$URL/v1/chat/completions" --json '{"model":"parrot","messages":[{"role":"user","content":"hello"}]}'
{...hello...

    client = openai.OpenAI(base_url=URL + "/v1", api_key="any")

With `requires_proxy_auth=True` the key is one of `zygo workspace proxy-tokens create`.
"""

import zygo

image = zygo.Image.debian_slim().pip_install("fastapi[standard]")

with image.imports():
    from main import app as api

app = zygo.App("openai-parrot", image=image)


@app.function()
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    return api


@app.function()
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app(requires_proxy_auth=True)
def private():
    return api
