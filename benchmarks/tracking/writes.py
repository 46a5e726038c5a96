"""Logging metrics: one value a call, one value a call from many threads, and many values at once; reading a history.

    python benchmarks/tracking/writes.py [DATABASE_URL]      everloop; default a new SQLite file
    PEER_PYTHON benchmarks/tracking/writes.py mlflow         MLflow's own SQLite store, in an environment that has it

Both in one process, without HTTP, with every write as durable as the product makes it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

SINGLE, CROWD, THREADS, MANY, PAGE = 300, 3_000, 16, 20_000, 1_000


class Everloop:
    def __init__(self, folder: Path, url: str) -> None:
        from everloop.settings import load_settings
        from everloop.workspace import open_workspace

        settings = load_settings(folder, environ={}, actor="bench", **({"database_url": url} if url else {}))
        self.ws = open_workspace(settings=settings)

    def start(self) -> str:
        from everloop import tracking

        self.tracking = tracking
        return tracking.start_run(self.ws).id

    def log(self, run: str, name: str, step: int) -> None:
        self.tracking.log_metrics(self.ws, run, {name: step * 0.1}, step=step)

    def log_many(self, run: str, name: str, count: int) -> None:
        now = self.ws.now()
        self.tracking.log_points(
            self.ws, run, [self.tracking.MetricPoint(name, step * 0.1, step, now) for step in range(count)]
        )

    def read(self, run: str, name: str) -> int:
        last, count = None, 0
        while page := self.tracking.metric_history(self.ws, run, name, after=last, limit=PAGE):
            last, count = page[-1], count + len(page)
        return count

    def close(self) -> None:
        self.ws.close()


class Mlflow:
    def __init__(self, folder: Path, url: str) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self.store = SqlAlchemyStore(url or f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))

    def start(self) -> str:
        return self.store.create_run("0", "bench", int(time.time() * 1000), [], "run").info.run_id

    def _metric(self, name: str, step: int) -> Any:
        from mlflow.entities import Metric

        return Metric(name, step * 0.1, int(time.time() * 1000), step)

    def log(self, run: str, name: str, step: int) -> None:
        self.store.log_metric(run, self._metric(name, step))

    def log_many(self, run: str, name: str, count: int) -> None:
        for start in range(0, count, 1_000):  # as its client cuts batches
            self.store.log_batch(run, [self._metric(name, start + step) for step in range(1_000)], [], [])

    def read(self, run: str, name: str) -> int:
        return len(self.store.get_metric_history(run, name))

    def close(self) -> None:
        pass


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{what:36} {count / wall:>10,.0f} /s {wall / count * 1e6:>10,.0f} us {cpu / count * 1e6:>8,.0f} us CPU each"
    )


def measure(product: Any) -> None:
    run = product.start()
    product.log(run, "warm", 0)
    with timed("one value a call", SINGLE):
        for step in range(SINGLE):
            product.log(run, "single", step)
    with ThreadPoolExecutor(THREADS) as pool, timed(f"one value a call, {THREADS} threads", CROWD):
        list(pool.map(partial(product.log, run, "crowd"), range(CROWD)))
    with timed("many values a call", MANY):
        product.log_many(run, "many", MANY)
    with timed(f"history, in pages of {PAGE}", MANY):
        assert product.read(run, "many") == MANY
    product.close()


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as place:
        measure(Mlflow(Path(place), "") if chosen == "mlflow" else Everloop(Path(place), chosen))
