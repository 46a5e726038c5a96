"""BentoML with its adaptive batching, and one worker.

bentoml serve bentoml_peer:Classifier --port PORT, with the environment of `rows`. It writes no log. A client of a
batchable API sends a list, here of one row.
"""

from __future__ import annotations

from typing import Any

import bentoml
import rows

Row: Any = rows.Inputs


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Classifier:
    def __init__(self) -> None:
        self.model = rows.Model()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def predict(self, batch: list[Row]) -> list[rows.Best]:
        return self.model.best(batch)
