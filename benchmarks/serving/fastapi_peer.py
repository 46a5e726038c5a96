"""The same prediction server as one writes it by hand: FastAPI, pydantic, scikit-learn, a log line each.

python fastapi_peer.py MODEL.skops LOG PORT
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from typing import Any

import numpy as np
import skops.io  # noqa: TID253  (this is not ours: it is written as one would)
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict

model = skops.io.load(sys.argv[1])
classes = [str(name) for name in model.classes_]
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
app = FastAPI()


class Inputs(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    title: str


class Request(BaseModel):
    inputs: Inputs
    key: str | None = None


class Answer(BaseModel):
    prediction_id: str
    output: str
    scores: dict[str, float]
    model: str
    version: int
    variant: str


@app.post("/endpoints/category/predict")
async def predict(request: Request, response: Response) -> Answer:
    started = time.perf_counter_ns()
    rows = np.empty((1, 1), dtype=object)
    rows[0, 0] = request.inputs.title
    shares = model.predict_proba(rows)[0]
    best = np.argsort(-shares)[:3]
    scores = {classes[index]: float(shares[index]) for index in best}
    answer = Answer(
        prediction_id=uuid.uuid4().hex,
        output=classes[best[0]],
        scores=scores,
        model="category",
        version=1,
        variant="control",
    )
    record: dict[str, Any] = {
        **answer.model_dump(),
        "inputs": request.inputs.model_dump(),
        "key": request.key,
        "at": time.time(),
        "latency_us": (time.perf_counter_ns() - started) // 1000,
    }
    os.write(log, json.dumps(record).encode() + b"\n")
    response.headers["x-prediction-id"] = answer.prediction_id
    return answer


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[3]), log_level="warning", access_log=False)
