import time

import gradio as gr
from fastapi import FastAPI


def greet(name):
    return f"Hello {name}!"


def count(name):
    for number in range(1, 4):
        time.sleep(0.05)
        yield f"{name} {number}"


def size(path):
    with open(path, "rb") as file:
        return f"{len(file.read())} bytes"


with gr.Blocks(title="Greeter") as demo:
    name = gr.Textbox(label="Name")
    greeting = gr.Textbox(label="Greeting")
    gr.Button("Greet").click(greet, name, greeting, api_name="greet")
    gr.Button("Count").click(count, name, greeting, api_name="count")
    file = gr.File(label="File")
    file.upload(size, file, greeting)

site = gr.mount_gradio_app(FastAPI(), demo, path="/")

if __name__ == "__main__":
    demo.launch()
