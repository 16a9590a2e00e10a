import os
import time

from flask import Flask, Response, jsonify, redirect, request, send_from_directory, session, url_for

from .views import notes


def create_app():
    app = Flask(__name__)
    app.secret_key = os.environ.get("SECRET_KEY", "put this into a zygo.Secret")
    app.register_blueprint(notes)
    os.makedirs(app.instance_path, exist_ok=True)

    @app.get("/")
    def home():
        return redirect(url_for("notes.index", _external=True))

    @app.get("/visits")
    def visits():
        session["visits"] = session.get("visits", 0) + 1
        return jsonify(visits=session["visits"], scheme=request.scheme, host=request.host)

    @app.post("/files")
    def upload():
        file = request.files["file"]
        file.save(os.path.join(app.instance_path, file.filename))
        return jsonify(file=url_for("download", name=file.filename))

    @app.get("/files/<name>")
    def download(name):
        return send_from_directory(app.instance_path, name)

    @app.get("/slowly")
    def slowly():
        def lines():
            for number in range(3):
                yield f"line {number}\n"
                time.sleep(0.01)

        return Response(lines(), mimetype="text/plain")

    @app.get("/broken")
    def broken():
        raise RuntimeError("this one is broken")

    return app
