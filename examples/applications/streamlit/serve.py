"""Streamlit: its own server, started in the container; the page talks to it over a WebSocket.

$ zygo serve applications/streamlit/serve.py
$ curl "$URL/_stcore/health"
ok
"""

import subprocess
from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = zygo.Image.debian_slim().pip_install("streamlit").add_local_file(HERE / "page.py", "/root/page.py")
app = zygo.App("streamlit-page", image=image)

OPTIONS = [
    "--server.headless=true",
    "--server.fileWatcherType=none",  # `zygo serve` replaces the container when page.py is saved
    "--browser.gatherUsageStats=false",
]


@app.function(max_containers=1)  # a session lives in the process where it began
@zygo.concurrent(max_inputs=1000)  # each open page holds a WebSocket
@zygo.web_server(8501, startup_timeout=60)
def web():
    subprocess.Popen(["streamlit", "run", "page.py", "--server.port=8501", *OPTIONS])
