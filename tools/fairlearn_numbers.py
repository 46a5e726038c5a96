"""Writes what fairlearn says of some made-up groups, which the fairness check is held against: tests/checks/fairlearn.json.

fairlearn brings pandas and scipy of its own choice, so it gets an environment of its own:

    python -m venv /tmp/fairlearn && /tmp/fairlearn/bin/pip install fairlearn
    /tmp/fairlearn/bin/python tools/fairlearn_numbers.py
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import fairlearn.metrics as fair
import numpy as np

MEASURES = {
    "demographic_parity": (fair.demographic_parity_difference, fair.demographic_parity_ratio),
    "equal_opportunity": (fair.equal_opportunity_difference, fair.equal_opportunity_ratio),
    "equalised_odds": (fair.equalized_odds_difference, fair.equalized_odds_ratio),
}
CELLS = ((1, 1), (1, 0), (0, 1), (0, 0))  # label and answer


def main() -> None:
    random, cases = np.random.default_rng(0), []
    for groups in (2, 3, 4, 5):
        for _ in range(3):
            counts = {f"group {number}": random.integers(0, 60, 4).tolist() for number in range(groups)}
            cases.append({"counts": counts, "says": says(counts)})
    file = Path(__file__).parents[1] / "tests" / "checks" / "fairlearn.json"
    found = {"fairlearn": metadata.version("fairlearn"), "cases": cases}
    file.write_text(json.dumps(found, indent=1) + "\n")


def says(counts: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    rows = [
        (group, *cell)
        for group, numbers in counts.items()
        for cell, n in zip(CELLS, numbers, strict=True)
        for _ in range(n)
    ]
    groups, labels, answers = zip(*rows, strict=True)
    return {
        name: {
            kind: float(metric(labels, answers, sensitive_features=groups))
            for kind, metric in zip(("difference", "ratio"), pair, strict=True)
        }
        for name, pair in MEASURES.items()
    }


if __name__ == "__main__":
    main()
