"""`python -m http.server` behind a URL: the smallest web server, and one that knows nothing but HTTP/1.0.

$ zygo serve applications/files/serve.py
$ curl "$URL/hello.txt"
hello
$ curl "$URL/"
<!DOCTYPE HTML...hello.txt...
"""

import subprocess
from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = zygo.Image.debian_slim().add_local_dir(HERE / "public", "/public")
app = zygo.App("files", image=image)


@app.function()
@zygo.concurrent(max_inputs=100)
@zygo.web_server(8000)
def web():
    subprocess.Popen(["python", "-m", "http.server", "8000", "--directory", "/public"])
