"""Projects without a line of zygo, served and deployed as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zygo.testing.harness import Place

SHOP = """
    from contextlib import asynccontextmanager
    from pathlib import Path

    from fastapi import FastAPI, WebSocket

    from .prices import PRICE

    @asynccontextmanager
    async def lifespan(app):
        app.state.calls = 0
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/price")
    def price():
        app.state.calls += 1
        return {"price": PRICE, "calls": app.state.calls, "note": Path("shop/note.txt").read_text()}

    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text(await socket.receive_text())
"""


def test_a_fastapi_package_is_served_and_follows_saves(place: Place, write: Callable[..., Path]) -> None:
    write("", "shop/__init__.py")
    write("PRICE = 1\n", "shop/prices.py")
    write("hello", "shop/note.txt")
    path = write(SHOP, "shop/main.py")
    with place.serve("shop/main.py", cwd=path.parents[1]) as serve:
        serve.wait_for("no requirements.txt or pyproject.toml", anywhere=True)
        answers = [serve.get("app", path="/price").json() for _ in range(2)]
        assert [answer["calls"] for answer in answers] == [1, 2], "one process answers all"
        assert answers[0] == {"price": 1, "calls": 1, "note": "hello"}
        serve.save("shop/prices.py", "PRICE = 2\n")
        serve.wait_for(r"Updated main in")
        assert serve.get("app", path="/price").json() == {"price": 2, "calls": 1, "note": "hello"}
        serve.save("shop/note.txt", "changed")
        serve.wait_for(r"Updated main in")
        assert serve.get("app", path="/price").json()["note"] == "changed"


def test_a_plain_application_is_deployed_under_a_name(place: Place, write: Callable[..., Path]) -> None:
    write("starlette\n", "requirements.txt")
    path = write(
        """
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        async def home(request):
            return PlainTextResponse("home")

        application = Starlette(routes=[Route("/", home)])
        """,
        "server.py",
    )
    refused = place.zygo("deploy", str(path))
    assert refused.code == 1
    assert f"zygo deploy {path} --name server" in refused.text
    result = place.deploy(path, "--name", "site")
    try:
        assert httpx.get(result["urls"]["app"], trust_env=False).text == "home"
    finally:
        assert place.zygo("app", "stop", "--yes", "site").code == 0


def test_a_flask_application_is_served_as_it_is(place: Place, write: Callable[..., Path]) -> None:
    write("flask\n", "requirements.txt")
    write("<h1>{{ name }}</h1>", "templates/hello.html")
    path = write(
        """
        from flask import Flask, render_template, request

        app = Flask(__name__)

        @app.route("/hello/<name>")
        def hello(name):
            return render_template("hello.html", name=name)

        @app.post("/echo")
        def echo():
            return request.get_json()
        """,
        "site_.py",
    )
    with place.serve(path) as serve:
        assert serve.get("app", path="/hello/Ada").text == "<h1>Ada</h1>"
        assert serve.post("app", path="/echo", json={"a": 1}).json() == {"a": 1}
        serve.save("templates/hello.html", "<h2>{{ name }}</h2>")
        serve.wait_for(r"Updated site_ in")
        assert serve.get("app", path="/hello/Ada").text == "<h2>Ada</h2>"


DJANGO = {
    "manage.py": """
        import os, sys

        if __name__ == "__main__":
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
            from django.core.management import execute_from_command_line
            execute_from_command_line(sys.argv)
    """,
    "mysite/__init__.py": "",
    "mysite/settings.py": """
        from pathlib import Path

        BASE_DIR = Path(__file__).resolve().parent.parent
        SECRET_KEY = "not one"
        DEBUG = True
        ALLOWED_HOSTS = ["*"]
        ROOT_URLCONF = "mysite.urls"
        STATIC_URL = "static/"
        INSTALLED_APPS = [
            "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
            "django.contrib.messages", "django.contrib.staticfiles", "greetings",
        ]
        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware",
        ]
        TEMPLATES = [{
            "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            "OPTIONS": {"context_processors": [
                "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]},
        }]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
        WSGI_APPLICATION = "mysite.wsgi.application"
    """,
    "mysite/urls.py": """
        from django.contrib import admin
        from django.urls import path
        from greetings.views import hello

        urlpatterns = [path("admin/", admin.site.urls), path("hello/<str:name>", hello)]
    """,
    "mysite/wsgi.py": """
        import os
        from django.core.wsgi import get_wsgi_application

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
        application = get_wsgi_application()
    """,
    "greetings/__init__.py": "",
    "greetings/views.py": """
        from django.shortcuts import render

        def hello(request, name):
            return render(request, "greetings/hello.html", {"name": name})
    """,
    "greetings/templates/greetings/hello.html": "Hello {{ name }}!",
}


def test_a_django_project_is_served_by_its_manage_py(place: Place, write: Callable[..., Path]) -> None:
    """Its admin's pages and static files too. The command does not have Django installed: only its image has."""
    write("django\n", "requirements.txt")
    for name, text in DJANGO.items():
        write(text, name)
    path = write(DJANGO["manage.py"], "manage.py")
    with place.serve(path) as serve:
        assert serve.get("app", path="/hello/Ada").text == "Hello Ada!"
        page = serve.get("app", path="/admin/login/")
        assert "Django administration" in page.text
        assert serve.get("app", path="/static/admin/css/base.css").status_code == 200
        serve.save("greetings/templates/greetings/hello.html", "Good morning {{ name }}!")
        serve.wait_for(r"Updated \w+ in")
        assert serve.get("app", path="/hello/Ada").text == "Good morning Ada!"
