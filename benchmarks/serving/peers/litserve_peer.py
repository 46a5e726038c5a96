"""LitServe with its batching: what waits when the model is free, 32 at most, and one worker.

python litserve_peer.py PORT, with the environment of `rows`. It writes no log.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import rows

# of 0, 1 and 2 ms the one that answered the most (250, 546 and 600 requests a second on a busy machine)
TIMEOUT_S = float(os.environ.get("BENCH_BATCH_TIMEOUT_S", "0.002"))  # noqa: TID251  (no setting of ours)


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = rows.Model()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # what is written here decides how it is read
        return rows.Inputs.model_validate(request["inputs"])

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, batch: list[Any]) -> list[rows.Best]:
        return self.model.best(batch)

    def unbatch(self, output: list[rows.Best]) -> list[rows.Best]:
        return output

    def encode_response(self, output: rows.Best) -> dict[str, Any]:
        return output.model_dump()


if __name__ == "__main__":
    api = Classifier(
        max_batch_size=32, batch_timeout=TIMEOUT_S, api_path="/endpoints/category/predict", enable_async=False
    )
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
