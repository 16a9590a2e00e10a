"""A typed body and a typed answer: Pydantic checks the one and filters the other.

$ zygo serve pydantic_model.py
$ curl -d '{"name": "Erik", "qty": 10}' -H 'Content-Type: application/json' "$URL"
{"name":"Erik","total":25.0}
$ curl -d '{"qty": 10}' -H 'Content-Type: application/json' "$URL"     # status 422
{"detail":[{"type":"missing","loc":["body","name"],"msg":"Field required",...}]}
"""

from pydantic import BaseModel

import zygo

app = zygo.App("pydantic-model", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


class Order(BaseModel):
    name: str
    qty: int = 42


class Receipt(BaseModel):
    name: str
    total: float


@app.function()
@zygo.fastapi_endpoint(method="POST")
def order(item: Order) -> Receipt:
    # The annotation is the contract: `margin` is not part of a Receipt, so callers never see it.
    return {"name": item.name, "total": item.qty * 2.5, "margin": 0.4}  # type: ignore[return-value]
