"""Several functions in one app: each has its own URL and its own containers, and scales on its own.

$ zygo serve several_functions.py
$ curl "$URL_FAST"
{"function":"fast"}
$ curl "$URL_SLOW"
{"function":"slow"}
"""

import time

import zygo

app = zygo.App("several-functions", image=zygo.Image.debian_slim().pip_install("fastapi[standard]"))


@app.function(min_containers=1, scaledown_window=120)  # one is always warm
@zygo.fastapi_endpoint()
def fast():
    return {"function": "fast"}


@app.function(max_containers=2, timeout=10)  # two at once, the others wait; after ten seconds it is given up
@zygo.fastapi_endpoint(label="take-your-time")  # instead of several-functions-slow in its hostname
def slow(seconds: float = 0.2):
    time.sleep(seconds)
    return {"function": "slow"}
