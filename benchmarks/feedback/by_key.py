"""How long it takes to find the prediction that a correction names by its key, in a log of unsealed and of sealed segments.

    python benchmarks/feedback/by_key.py [--records 100000]

Prints the median of five look-ups in milliseconds of processor time, and of reading one day of thirty.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from everloop import predictions
from everloop.clock import to_micros
from everloop.feedback.predictions import by_key
from everloop.ids import new_prediction_id
from everloop.predictions import LogWriter, PredictionRecord
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace

START = datetime(2026, 9, 1, tzinfo=UTC)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=100_000)
    records = options.parse_args().records
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home, environ={}, actor="benchmark")
        with open_workspace(settings=settings, simulation_from=START + timedelta(days=30)) as ws:
            write(ws.home / "serving", records)
            for state in ("unsealed", "sealed"):
                told = f"{_median_ms(lambda: find(ws, records)):8.1f} ms by key"
                told += f"{_median_ms(lambda: read_a_day(ws)):8.1f} ms a day of thirty"
                print(f"{records:,} records, {state}: {told}")
                predictions.seal(ws.home / "serving")


def write(folder: Path, count: int) -> None:
    writer = LogWriter.claim(folder)
    step = timedelta(days=30) / count
    for first in range(0, count, 1_000):
        writer.write(
            [
                PredictionRecord(
                    id=new_prediction_id(writer.writer),
                    endpoint="category",
                    variant="control",
                    release="rel_1",
                    model="category",
                    version=1,
                    epoch=1,
                    at=to_micros(START + number * step),
                    key=str(number),
                    inputs={"title": f"a title of a listing, number {number}", "merchant_id": number % 300},
                    features={"merchant_volume": (number % 50, to_micros(START))},
                    output="Fridges",
                    scores={"Fridges": 0.7, "Freezers": 0.2, "Ovens": 0.1},
                    status="ok",
                    error=None,
                    latency_us=900,
                )
                for number in range(first, min(first + 1_000, count))
            ]
        )
    writer.close()


def find(ws: Workspace, count: int) -> None:
    assert by_key(ws, "category", str(count // 2), at=ws.now()).key == str(count // 2)


def read_a_day(ws: Workspace) -> None:
    day = START + timedelta(days=10)
    assert predictions.read(
        ws.home / "serving", endpoint="category", start=day, end=day + timedelta(days=1)
    ).num_rows


def _median_ms(act: Callable[[], None]) -> float:
    times = []
    for _ in range(5):
        began = time.process_time()
        act()
        times.append((time.process_time() - began) * 1_000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
