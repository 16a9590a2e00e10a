"""Django: the admin with its static files, users and books in SQLite.

$ zygo serve applications/django/serve.py
$ curl "$URL/"
{"books": []}
$ curl "$URL/static/admin/css/base.css"
/*...

In a browser: $URL/admin/, as admin, password admin (of your own: ADMIN_PASSWORD in a zygo.Secret).
"""

from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = (
    zygo.Image.debian_slim()
    .pip_install_from_requirements(HERE / "requirements.txt")
    .add_local_python_source("bookshop", "books")  # Django finds them by settings, not by imports
)

with image.imports():
    from bookshop.ready import application

app = zygo.App("django-bookshop", image=image)


# SQLite is a file of one container, and gone with it. With a database elsewhere there can be many.
@app.function(max_containers=1)
@zygo.concurrent(max_inputs=20)
@zygo.wsgi_app()
def web():
    return application
