"""The plainest peer: FastAPI and sentence-transformers as most people put them together, `python -m benchmarks._serve_peer`.

A function that is not async, so that FastAPI runs it in its pool of threads; it encodes the text of its request by itself.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Body(BaseModel):
    text: str


def make_app(model: Any) -> FastAPI:
    app = FastAPI()

    @app.post("/embed")
    def embed(body: Body) -> dict[str, list[float]]:
        return {"embedding": model.encode([body.text])[0].tolist()}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = SentenceTransformer(options.model, device="cpu")
    if options.precision == "bfloat16":
        model.bfloat16()
    model.encode(["a text"])
    uvicorn.run(make_app(model), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
