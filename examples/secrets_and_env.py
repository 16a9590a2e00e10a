"""Settings and secrets reach a function as environment variables.

    $ zygo serve secrets_and_env.py
    $ curl "$URL"
    {"mode":"production","level":"2","key":"abc..."}

`Secret.from_dotenv()` reads a .env file, which stays out of the code, and `zygo serve` follows its changes.
"""

import os

import zygo

app = zygo.App("secrets-and-env", image=zygo.Image.debian_slim().pip_install("fastapi[standard]").env({"LEVEL": "1"}))

api_key = zygo.Secret.from_dict({"API_KEY": "abcdef", "LEVEL": "2"})


@app.function(secrets=[api_key], env={"MODE": "production"})  # later ones win: image, secrets in order, env
@zygo.fastapi_endpoint()
def show():
    return {"mode": os.environ["MODE"], "level": os.environ["LEVEL"], "key": os.environ["API_KEY"][:3] + "..."}
