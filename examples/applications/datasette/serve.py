"""Datasette: pages and an API for a SQLite database, here one that is made when the container starts.

$ zygo serve applications/datasette/serve.py
$ curl "$URL/books/books.json?_shape=array&pages__gt=160"
[{"id": 1, "title": "Ficciones", "pages": 174}]
"""

import sqlite3

import zygo

image = zygo.Image.debian_slim().pip_install("datasette")

with image.imports():
    from datasette.app import Datasette

app = zygo.App("datasette-books", image=image)


@app.function()
@zygo.concurrent(max_inputs=100)
@zygo.asgi_app()
def web():
    with sqlite3.connect(
        "/tmp/books.db"
    ) as database:  # a file of your own: image.add_local_file("books.db", "/data/books.db")
        database.execute("CREATE TABLE IF NOT EXISTS books (id INTEGER PRIMARY KEY, title TEXT, pages INTEGER)")
        database.executemany("REPLACE INTO books VALUES (?, ?, ?)", [(1, "Ficciones", 174), (2, "El Aleph", 146)])
    return Datasette(["/tmp/books.db"]).app()
