"""Gradio's own app around one function."""

import gradio

app = gradio.routes.App.create_app(gradio.Interface(fn=str.upper, inputs="text", outputs="text"))
