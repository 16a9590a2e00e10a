import asyncio

from quart import Quart, jsonify, make_response, render_template_string, request, websocket

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = 100 << 20  # Quart's own limit is 16 MiB
state = {"started": False}


@app.before_serving
async def start():
    state["started"] = True


@app.after_serving
async def stop():
    print("served to the end")


@app.get("/")
async def index():
    return jsonify(state)


@app.get("/hello/<name>")
async def hello(name):
    return await render_template_string("<p>Hello {{ name }}</p>", name=name)


@app.post("/upload")
async def upload():
    size = 0
    async for chunk in request.body:
        size += len(chunk)
    return {"size": size}


@app.get("/events")
async def events():
    async def each():
        for number in range(3):
            yield f"data: {number}\n\n".encode()
            await asyncio.sleep(0.01)

    response = await make_response(each(), {"Content-Type": "text/event-stream"})
    response.timeout = None
    return response


@app.post("/later")
async def later():
    async def work():
        print("done later")

    app.add_background_task(work)
    return {}, 202


@app.websocket("/echo")
async def echo():
    while True:
        await websocket.send((await websocket.receive()).upper())
