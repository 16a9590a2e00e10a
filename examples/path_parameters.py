"""Parameters in the path (an extension of zygo: without `path=` an endpoint answers at `/`).

$ zygo serve path_parameters.py
$ curl "$URL/items/7?size=large"
{"item":7,"size":"large"}
$ curl "$URL/items/seven"                      # status 422
{"detail":[{"type":"int_parsing","loc":["path","item"],...}]}
"""

import zygo

app = zygo.App("path-parameters", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function()
@zygo.fastapi_endpoint(path="/items/{item}")
def item(item: int, size: str = "small"):
    return {"item": item, "size": size}
