from fasthtml.common import Button, Form, Input, Li, Titled, Ul, fast_app

app, rt = fast_app()
todos: dict[int, str] = {}


def item(number: int):
    done = Button("done", hx_delete=f"/{number}", hx_target=f"#todo-{number}", hx_swap="outerHTML")
    return Li(todos[number], " ", done, id=f"todo-{number}")


@rt("/")
def get():
    form = Form(Input(name="title"), Button("add"), hx_post="/", hx_target="#todos", hx_swap="beforeend")
    return Titled("To do", form, Ul(*map(item, todos), id="todos"))


@rt("/")
def post(title: str):
    number = len(todos) + 1
    todos[number] = title
    return item(number)


@rt("/{number}")
def delete(number: int):
    del todos[number]
    return ""


@app.ws("/ws")
async def ws(title: str, send):
    await send(Ul(Li(title.upper()), id="todos"))
