"""Prediction records and routes for tests, with what matters given and the rest filled in."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from everloop.ids import new_prediction_id
from everloop.predictions import PredictionRecord
from everloop.serving import Route, Variant

T0_US = 1_788_220_800_000_000  # 2026-09-01T00:00:00Z


def record(number: int = 0, *, writer: int = 1, **given: Any) -> PredictionRecord:
    values: dict[str, Any] = {
        "id": new_prediction_id(writer),
        "endpoint": "category",
        "variant": "control",
        "release": "rel_1",
        "model": "category",
        "version": 1,
        "epoch": 1,
        "at": T0_US + number,
        "key": str(number),
        "inputs": {"title": f"title {number}", "merchant_id": number},
        "features": {"volume": (number, None)},
        "output": "Fridges",
        "scores": {"Fridges": 0.75, "Freezers": 0.25},
        "status": "ok",
        "error": None,
        "latency_us": 500,
    }
    return PredictionRecord(**{**values, **given})


def route(*variants: tuple[str, float], **given: Any) -> Route:
    return Route(
        "category", "salt", tuple(Variant(name, f"rel_{name}", weight) for name, weight in variants), **given
    )


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel takes no byte beyond this size in any file: as a disk that fills up does, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
