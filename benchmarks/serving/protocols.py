"""What a request costs in each protocol: processor time of the whole application but for HTTP, a small model included.

    python -m benchmarks.serving.protocols [--rounds 7]

In one process, 32 requests at once, logged as always. Prints the median of all rounds, and the ratio to our own JSON in
the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from everloop.serving import Field
from tests.serving.asgi import InProcess
from tests.serving.home import go_live, object_array, write_release

AT_ONCE = 32
ROW = {"size": 1.5, "count": 2}


def requests(rows: int) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Path, body and headers in each protocol."""
    encode = msgspec.json.encode
    values = [[1.5, 2]] * rows
    tensors: list[dict[str, Any]] = [
        {"name": "size", "shape": [rows], "datatype": "FP64", "data": [1.5] * rows},
        {"name": "count", "shape": [rows], "datatype": "INT64", "data": [2] * rows},
    ]
    own = {"inputs": ROW} if rows == 1 else {"instances": [{"inputs": ROW}] * rows}
    sized = [
        {
            **{name: one[name] for name in ("name", "shape", "datatype")},
            "parameters": {"binary_data_size": 8 * rows},
        }
        for one in tensors
    ]
    head = encode({"inputs": sized, "parameters": {"binary_data_output": True}})
    content = struct.pack(f"<{rows}d", *[1.5] * rows) + struct.pack(f"<{rows}q", *[2] * rows)
    return {
        "everloop": ("/endpoints/category/predict", encode(own), {}),
        "MLflow, JSON": ("/invocations", encode({"inputs": values}), {}),
        "MLflow, CSV": ("/invocations", b"size,count\n" + b"1.5,2\n" * rows, {"content-type": "text/csv"}),
        "KServe v1": ("/v1/models/category:predict", encode({"instances": values}), {}),
        "Open Inference, JSON": ("/v2/models/category/infer", encode({"inputs": tensors}), {}),
        "Open Inference, binary": (
            "/v2/models/category/infer",
            head + content,
            {"inference-header-content-length": str(len(head))},
        ),
    }


async def ask(app: InProcess, path: str, body: bytes, headers: Mapping[str, str], times: int) -> None:
    for _ in range(times):
        got = await asyncio.gather(*(app.ask("POST", path, body, headers) for _ in range(AT_ONCE)))
        assert {one.status for one in got} == {200}


def main(rounds: int) -> None:
    from sklearn.linear_model import LinearRegression

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = LinearRegression().fit(object_array([[0.0, 0], [1.0, 0], [0.0, 1]]), [0, 1, 10])
        inputs = (Field("size", "number"), Field("count", "integer"))
        write_release(home, "rel_control", model, inputs=inputs, classes=None)
        go_live(home, ("control", 100))
        with InProcess(home) as app:
            print(
                "| protocol | rows | us of processor time a request | everloop's own = 1 |\n|---|---|---|---|"
            )
            for rows, times in ((1, 60), (25, 8)):
                cases = requests(rows)
                spent: dict[str, list[float]] = {name: [] for name in cases}
                for turn in range(rounds + 1):
                    for name, (path, body, headers) in cases.items():
                        start = time.process_time()
                        app.run(ask(app, path, body, headers, times))
                        if turn:  # the first warms
                            spent[name].append((time.process_time() - start) / (times * AT_ONCE) * 1e6)
                for name, found in spent.items():
                    ratio = statistics.median(
                        one / own for one, own in zip(found, spent["everloop"], strict=True)
                    )
                    print(f"| {name} | {rows} | {statistics.median(found):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
