"""A small world: goods with labels, a release that learned from them, and a prediction log to write into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from everloop import data, feedback, labels, predictions, serving
from everloop.clock import to_micros
from everloop.feedback import Correction
from everloop.ids import new_prediction_id
from everloop.labels import LabelEvent, LabelSchema, NewLabel
from everloop.predictions import LogWriter
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.conftest import CLASSES, goods, pass_time

RELEASE = "rel_1"


@dataclass(frozen=True)
class World:
    """A workspace whose endpoint `kind` answers what the test says."""

    ws: Workspace
    log: LogWriter

    def predict(self, key: int | None = 1, answer: str | float | None = "TVs", **given: Any) -> str:
        """Log a prediction of now and give its id."""
        prediction_id = new_prediction_id(self.log.writer)
        values: dict[str, Any] = {
            "id": prediction_id,
            "endpoint": "kind",
            "variant": "control",
            "release": RELEASE,
            "model": "kind",
            "version": 1,
            "epoch": 1,
            "at": to_micros(given.pop("at", self.ws.now())),
            "key": None if key is None else str(key),
            "inputs": {"title": "a thing"},
            "features": {},
            "output": answer,
            "scores": {},
            "status": "ok",
            "error": None,
            "latency_us": 100,
            **given,
        }
        self.log.write([predictions.PredictionRecord(**values)])
        return prediction_id

    def correct(self, value: Any = "TVs", *, by: str = "moderator", **more: Any) -> Correction:
        return feedback.correct(self.ws, endpoint="kind", value=value, reporter=by, **more)

    def later(self, **by: float) -> datetime:
        """Let time pass and say what time it is then."""
        pass_time(self.ws, **by)
        return self.ws.now()

    def said(self) -> list[LabelEvent]:
        """The label events that came of feedback, newest first."""
        return [one for one in labels.history(self.ws, "kind") if one.source != "human"]

    def release(self, name: str, **given: Any) -> None:
        """Write another release."""
        write_release(self.ws, name, **given)


def define(ws: Workspace, classes: Any = CLASSES) -> LabelSchema:
    return labels.define(
        ws, "kind", dataset="goods", classes=classes, reports={"moderator": "accept", "seller": "review"}
    )


def write_release(ws: Workspace, name: str, *, label_snapshot: str | None, **given: Any) -> None:
    values: dict[str, Any] = {
        "model": "kind",
        "version": 1,
        "digest": "0" * 64,
        "files": {},
        "signature": serving.Signature((serving.Field("title", "string"),), "class", CLASSES),
        "created_at": START,
        "label_snapshot": label_snapshot,
        **given,
    }
    serving.write_manifest(ws.home / "serving", serving.Manifest(id=name, **values))


def build(ws: Workspace) -> Iterator[World]:
    goods(ws)
    define(ws)
    labels.record(ws, "kind", [NewLabel(20, "TVs", "ann", at=START - timedelta(days=1))])
    write_release(ws, RELEASE, label_snapshot=labels.snapshot(ws, "kind").digest)
    log = LogWriter.claim(ws.home / "serving")
    yield World(ws, log)
    log.close()


def arrive(ws: Workspace, *keys: int) -> None:
    """Ingest further goods."""
    data.ingest(ws, "goods", pa.table({"sku": list(keys), "title": [f"thing {key}" for key in keys]}))


@pytest.fixture
def world(ws: Workspace) -> Iterator[World]:
    yield from build(ws)


@pytest.fixture
def any_world(any_ws: Workspace) -> Iterator[World]:
    """As `world`, on both databases."""
    yield from build(any_ws)
