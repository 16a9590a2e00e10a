"""A server in another language: Node's, which has to be installed on the server's machine (`apt install nodejs`).

$ zygo serve applications/node/serve.py
$ curl "$URL/hello?name=Ada"
{"hello":"Ada"}
$ curl --data-binary abc "$URL/upload"
{"size":3}
$ curl "$URL/events"
data: 0...
"""

import subprocess
from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = zygo.Image.debian_slim().add_local_file(HERE / "server.mjs", "/root/server.mjs")
app = zygo.App("node", image=image)


@app.function()
@zygo.concurrent(max_inputs=100)
@zygo.web_server(3000, startup_timeout=20)
def web():
    subprocess.Popen(["node", "server.mjs"])
