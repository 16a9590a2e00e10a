"""Flask: a package made by a factory, with a blueprint, templates, static files, a session, uploads and downloads.

$ zygo serve applications/flask/serve.py
$ curl "$URL/notes/"
<title>Notes</title>...<ul></ul>
$ curl "$URL/static/style.css"
body { color: teal }
"""

import zygo

image = zygo.Image.debian_slim().pip_install("flask")

with image.imports():
    from notes import create_app

app = zygo.App("flask-notes", image=image)


@app.function(max_containers=1)  # its files and notes are one container's
@zygo.concurrent(max_inputs=20)  # each request has a thread
@zygo.wsgi_app()
def web():
    return create_app()
