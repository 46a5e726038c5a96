"""A loop file with a pipeline whose best parameters are known, and what it notes of its calls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from everloop import loop
from everloop.loop import Loop

TUNED = """
import time
from pathlib import Path

import everloop as el


def note(log: str, line: str) -> None:
    with Path(log).open("a") as file:
        file.write(line + "\\n")


@el.step
def prepare(log: str) -> int:
    note(log, "prepare")
    time.sleep(0.2)
    return 1


@el.step
def fit(data: int, x: float, y: int, epochs: int, pause_s: float, log: str) -> dict[str, float]:
    note(log, f"fit {x} {y}")
    if y == 13:
        raise ValueError("13 does not work")
    for epoch in range(1, epochs + 1):
        el.report(epoch, score=-((x - 3) ** 2) - (y - 2) ** 2 + epoch / 100)
        time.sleep(pause_s)
    return {"score": -((x - 3) ** 2) - (y - 2) ** 2, "y": y}


@el.pipeline
def tune(log: str, x: float = 0.0, y: int = 2, epochs: int = 2, pause_s: float = 0.0) -> dict[str, float]:
    return fit(prepare(log), x, y, epochs, pause_s, log)
"""


def loaded(folder: Path, declared: str = "") -> Loop:
    file = folder / "tuned.py"
    file.write_text(TUNED + declared)
    return loop.load(file)


def noted(log: Path) -> Counter[str]:
    return Counter(log.read_text().splitlines())
