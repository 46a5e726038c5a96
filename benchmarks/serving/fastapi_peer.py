"""The same prediction server as one writes it by hand: FastAPI, pydantic, scikit-learn, a log line each.

python fastapi_peer.py MODEL.skops LOG PORT FIELDS

FIELDS is JSON: for each input in order its type, string or integer, and whether it may be null.
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
from pydantic import BaseModel, ConfigDict, create_model

model = skops.io.load(sys.argv[1], trusted=skops.io.get_untrusted_types(file=sys.argv[1]))
classes = [str(name) for name in model.classes_]
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
app = FastAPI()


fields: dict[str, Any] = {}
for name, (kind, may_be_null) in json.loads(sys.argv[4]).items():
    type_ = str if kind == "string" else int
    fields[name] = (type_ | None if may_be_null else type_, ...)
Inputs = create_model("Inputs", __config__=ConfigDict(strict=True, extra="forbid"), **fields)


class Request(BaseModel):
    inputs: Inputs  # type: ignore[valid-type]  # made above
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
    rows = np.empty((1, len(fields)), dtype=object)
    rows[0] = [getattr(request.inputs, name) for name in fields]
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
