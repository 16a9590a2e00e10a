"""What a handler needs can be asked for with Depends: here a user, found by the request's header.

$ zygo serve depends.py
$ curl -H 'Authorization: Bearer s3cret' "$URL"
{"hello":"ada"}
$ curl "$URL"                                  # status 401
{"detail":"who are you?"}
"""

from typing import Annotated

from fastapi import Depends, Header, HTTPException

import zygo

app = zygo.App("depends", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))

USERS = {"s3cret": "ada"}


def user(authorization: Annotated[str, Header()] = "") -> str:
    name = USERS.get(authorization.removeprefix("Bearer "))
    if name is None:
        raise HTTPException(401, "who are you?")
    return name


@app.function()
@zygo.fastapi_endpoint()
def whoami(name: Annotated[str, Depends(user)]):
    return {"hello": name}
