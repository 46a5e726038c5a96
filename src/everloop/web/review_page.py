"""`/review`: who is right: one prediction at a time, its answer hidden until the reviewer has spoken."""

from __future__ import annotations

from typing import Any

from everloop import feedback, labels, predictions, serving
from everloop.errors import NotFound
from everloop.web.visits import Shown, Visit

_MOST_CLASSES = 500


def view(visit: Visit) -> Shown:
    ws, endpoint = visit.ws, visit.query.get("endpoint") or None
    waiting = feedback.open_reviews(ws)
    queue = feedback.review_queue(ws, endpoint, after=visit.query.get("after"), limit=1)
    item = queue[0] if queue else None
    if item is None:
        return {"item": None, "waiting": waiting, "endpoint": endpoint}
    # neither the answer nor what a reporter said goes to the page: who sees an answer agrees with it too often
    return {
        "item": {
            "id": item.id,
            "endpoint": item.endpoint,
            "reason": item.reason,
            "prediction_id": item.prediction_id,
            "key": item.key,
            "predicted_at": item.predicted_at,
        },
        "inputs": _inputs(visit, item.prediction_id),
        "classes": _classes(visit, item.label_set, item.release),
        "waiting": waiting,
        "endpoint": endpoint,
        "skipped": visit.query.get("after"),
    }


def _inputs(visit: Visit, prediction_id: str) -> dict[str, Any]:
    record = predictions.find(visit.ws.home / "serving", prediction_id)
    return {} if record is None else dict(record.inputs)


def _classes(visit: Visit, label_set: str | None, release: str) -> list[str]:
    """What a reviewer may choose from; empty where the answer is a number."""
    if label_set is not None:
        return [str(one) for one in labels.schema(visit.ws, label_set).labels][:_MOST_CLASSES]
    try:
        manifest = serving.read_manifest(visit.ws.home / "serving", release)
    except NotFound:
        return []
    return list(manifest.signature.classes or ())[:_MOST_CLASSES]
