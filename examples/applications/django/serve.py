"""Django: the admin with its static files, users and books in SQLite.

$ zygo serve applications/django/serve.py
$ curl "$URL/"
{"books": []}
$ curl "$URL/static/admin/css/base.css"
/*...

In a browser: $URL/admin/, as admin, password admin.
"""

import os
from pathlib import Path

import zygo

HERE = Path(__file__).parent  # paths are relative to where the command runs

image = (
    zygo.Image.debian_slim()
    .pip_install_from_requirements(HERE / "requirements.txt")
    .add_local_python_source("bookshop", "books")  # Django finds them by settings, not by imports
)

with image.imports():
    from bookshop.wsgi import application

app = zygo.App("django-bookshop", image=image)


@app.function(
    max_containers=1
)  # SQLite is a file of one container, and gone with it: a database elsewhere can have many
@zygo.concurrent(max_inputs=20)
@zygo.wsgi_app()
def web():
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    password = os.environ.get("ADMIN_PASSWORD", "admin")  # put this into a zygo.Secret
    get_user_model().objects.create_superuser("admin", password=password)
    return application
