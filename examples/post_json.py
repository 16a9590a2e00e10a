"""A JSON body: `dict` takes any object, and what is missing in it is our own business.

$ zygo serve post_json.py
$ curl -d '{"words": ["a", "b", "a"]}' -H 'Content-Type: application/json' "$URL"
{"count":3,"distinct":["a","b"]}
"""

import zygo

app = zygo.App("post-json", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@zygo.fastapi_endpoint(method="POST")
def count(item: dict):
    words = item.get("words", [])
    return {"count": len(words), "distinct": sorted(set(words))}
