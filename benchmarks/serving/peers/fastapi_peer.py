"""The prediction server as one writes it by hand: FastAPI, pydantic, scikit-learn, a log line each with write(2).

python fastapi_peer.py PORT LOG, with the environment of `rows`
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from typing import Any

import rows
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

model = rows.Model()
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
app = FastAPI()


class Request(BaseModel):
    inputs: rows.Inputs
    key: str | None = None


class Answer(rows.Best):
    prediction_id: str
    model: str
    version: int
    variant: str


@app.post("/endpoints/category/predict")
async def predict(request: Request, response: Response) -> Answer:
    started = time.perf_counter_ns()
    (best,) = model.best([request.inputs])
    answer = Answer(
        prediction_id=uuid.uuid4().hex,
        output=best.output,
        scores=best.scores,
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
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
