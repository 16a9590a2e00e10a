from flask import Blueprint, redirect, render_template, request, url_for

notes = Blueprint("notes", __name__, url_prefix="/notes")
kept: list[str] = []


@notes.get("/")
def index():
    return render_template("notes.html", notes=kept)


@notes.post("/")
def add():
    kept.append(request.form["text"])
    return redirect(url_for(".index"))
