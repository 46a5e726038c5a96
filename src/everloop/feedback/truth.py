"""Which label set a prediction's model learned from, and whether a value is one of its labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from everloop import labels, serving
from everloop.errors import Invalid
from everloop.feedback.records import Prediction
from everloop.labels import LabelSchema, Value
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Words:
    """How a release names its answers (`learned`) and how they are named today (`today`); None without labels."""

    today: LabelSchema | None
    renamed: dict[str, str]

    @property
    def label_set(self) -> str | None:
        return None if self.today is None else self.today.name

    def checked(self, prediction: Prediction, value: object) -> Value:
        """The value, if it can be the truth about this prediction. Raises Invalid."""
        if self.today is not None:
            return labels.checked_value(self.today, value)
        if isinstance(prediction.answer, str):
            return str(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise Invalid(f"the model answers with numbers and {str(value)!r} is none. Give a finite number.")

    def differ(self, answer: Value, value: Value) -> bool:
        """Whether the truth is another than the answer, however the classes were called at the time."""
        if isinstance(answer, str):
            return self.renamed.get(answer, answer) != value
        return isinstance(value, str) or not math.isclose(answer, value, rel_tol=1e-9)


class Dictionary:
    """The words of releases, each looked up once."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._known: dict[str, Words] = {}

    def words(self, release: str) -> Words:
        if release not in self._known:
            self._known[release] = _words(self._ws, release)
        return self._known[release]


def differing(ws: Workspace, release: str) -> Callable[[Value, Value], bool]:
    """Whether an answer of this release is another than a truth, however its classes were called when it learned them."""
    return _words(ws, release).differ


def _words(ws: Workspace, release: str) -> Words:
    manifest = serving.read_manifest(ws.home / "serving", release)
    if manifest.label_snapshot is None:
        return Words(None, {})
    snapshot = labels.find_snapshot(ws, manifest.label_snapshot)
    learned = labels.schema(ws, f"{snapshot.name}#{snapshot.schema_number}")
    today = labels.schema(ws, snapshot.name)
    return Words(today, dict(labels.translation(learned, today)))
