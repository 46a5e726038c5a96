"""What unmodified clients of three protocols get from a serving process: prints it as one line of JSON.

python serving_calls.py HOST PORT PAGE

The Python blocks of PAGE are run as well, against this port.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient.utils import InferenceServerException

TITLES, SIZES, COUNTS = ["a fridge", "a freezer"], [1.5, float("nan")], [1, 2]


def mlflow_client(host: str, port: int) -> dict[str, Any]:
    client = ScoringServerClient(host, port)
    client.wait_server_ready(timeout=10)
    table = pd.DataFrame({"title": TITLES, "size": SIZES, "count": COUNTS})
    answer = client.invoke(table, params={"key": "listing 7"})
    try:
        client.invoke(table.assign(size="large"))
    except Exception as error:
        refused = str(error)
    return {
        "version": client.get_version(),
        "predictions": answer.get_predictions()[0].tolist(),
        "ids": [each["prediction_id"] for each in answer["everloop"]],
        "list": client.invoke([["a fridge", 1.5, 1.0]])["predictions"],
        "refused": refused,
    }


def triton_inputs(*, binary: bool) -> list[Any]:
    given = [
        ("title", "BYTES", np.array(TITLES, dtype=object)),
        ("size", "FP32", np.array(SIZES if binary else [1.5, 2.5], dtype=np.float32)),
        ("count", "INT16", np.array(COUNTS, dtype=np.int16)),
    ]
    found = []
    for name, datatype, values in given:
        found.append(triton.InferInput(name, list(values.shape), datatype))
        found[-1].set_data_from_numpy(values, binary_data=binary)
    return found


def triton_client(host: str, port: int) -> dict[str, Any]:
    client = triton.InferenceServerClient(f"{host}:{port}")
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("category"),
        "other_ready": client.is_model_ready("other"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("category", "3"),
    }
    for binary in (True, False):
        result = client.infer("category", triton_inputs(binary=binary), parameters={"key": "listing 8"})
        found[f"binary {binary}"] = tensors_of(result)
    wanted = [
        triton.InferRequestedOutput("top_scores", binary_data=False),
        triton.InferRequestedOutput("output"),
    ]
    result = client.infer("category", triton_inputs(binary=True), outputs=wanted, request_id="mine")
    found["wanted"] = {"id": result.get_response()["id"], **tensors_of(result)}
    try:
        client.infer("category", triton_inputs(binary=True)[:2])
    except InferenceServerException as error:
        found["refused"] = [error.status(), error.message()]
    client.close()
    return found


def tensors_of(result: Any) -> dict[str, Any]:
    response = result.get_response()
    found = {one["name"]: result.as_numpy(one["name"]) for one in response["outputs"]}
    return {
        "model_version": response["model_version"],
        **{
            name: [one.decode() if isinstance(one, bytes) else one for one in values.flatten().tolist()]
            for name, values in found.items()
        },
    }


async def kserve_client(host: str, port: int) -> dict[str, Any]:
    url = f"http://{host}:{port}"
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        found["v1"] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_model_ready(url, "category"),
            "answer": await client.infer(
                url,
                {"instances": [["a fridge", 1.5, 1], {"title": "a freezer", "count": 2}]},
                model_name="category",
                headers={"x-everloop-key": "listing 9"},
            ),
        }
        try:
            await client.infer(url, {"instances": [[1, 2, 3]]}, model_name="category")
        except Exception as error:
            found["v1"]["refused"] = str(error)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found["v2"] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model_ready": await client.is_model_ready(url, "category"),
            "other_ready": await client.is_model_ready(url, "other"),
        }
        for binary in (True, False):
            inputs = [
                InferInput("title", [2], "BYTES"),
                InferInput("size", [2, 1], "FP64"),
                InferInput("count", [2], "INT64"),
            ]
            inputs[0].set_data_from_numpy(np.array(TITLES, dtype=object), binary_data=binary)
            inputs[1].set_data_from_numpy(np.array([[1.5], [2.5]]), binary_data=binary)
            inputs[2].set_data_from_numpy(np.array(COUNTS), binary_data=binary)
            asked = InferRequest("category", inputs, parameters={"binary_data_output": binary})
            headers: dict[str, str] = {}
            answer = await client.infer(url, asked, model_name="category", response_headers=headers)
            found["v2"][f"binary {binary}"] = {
                "outputs": {one.name: one.data for one in answer.outputs},
                "request": answer.parameters["request"],
                "version": headers["x-everloop-version"],
            }
    return found


def page_of(page: str, port: int) -> list[str]:
    """What each Python block of the page prints."""
    printed = []
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(block.replace("8400", str(port)), "page", "exec"), {})  # noqa: S102  (ours)
        printed.append(said.getvalue())
    return printed


def main(host: str, port: int, page: str) -> None:
    found = {
        "page": page_of(Path(page).read_text(), port),
        "mlflow": mlflow_client(host, port),
        "triton": triton_client(host, port),
        "kserve": asyncio.run(kserve_client(host, port)),
    }
    print("ANSWERS " + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
