"""JupyterLab, with kernels that run in the container.

$ zygo serve applications/jupyter/serve.py
$ curl "$URL/api/status?token=choose-one"
{...kernels...}

In a browser: $URL/lab?token=choose-one
"""

import os
import subprocess

import zygo

image = zygo.Image.debian_slim().pip_install("jupyterlab")
app = zygo.App("jupyter-lab", image=image)

OPTIONS = [
    "--no-browser",
    "--allow-root",  # inside its sandbox a container is root, which means nothing outside
    "--port=8888",
    "--ServerApp.allow_remote_access=True",  # the Host header is that of the URL, not localhost
    "--ServerApp.root_dir=/root",
]


@app.function(max_containers=1, scaledown_window=1200)  # its kernels and notebooks are one container's
@zygo.concurrent(max_inputs=1000)  # each open notebook holds WebSockets
@zygo.web_server(8888, startup_timeout=120)
def web():
    token = os.environ.get("JUPYTER_TOKEN", "choose-one")  # put this into a zygo.Secret
    subprocess.Popen(["jupyter", "lab", *OPTIONS], env={**os.environ, "JUPYTER_TOKEN": token})
