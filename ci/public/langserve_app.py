"""An app with one runnable of LangChain."""

from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from langserve import add_routes

app = FastAPI()
add_routes(app, RunnableLambda(lambda text: text), path="/chain")
