"""What the room keeps and tells: corrections, outcomes, review items, audit samples, contradictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from everloop.labels import Value

Fate = Literal["accept", "review", "keep"]
Reason = Literal["audit", "correction"]


@dataclass(frozen=True)
class Prediction:
    """An answered prediction of live traffic, as far as feedback needs it.

    `at` is domain time, `logged` the chance that the log had to keep it.
    """

    id: str
    endpoint: str
    variant: str
    release: str
    model: str
    version: int
    key: str | None
    at: datetime
    answer: Value
    logged: float = 1.0


@dataclass(frozen=True)
class Correction:
    """Somebody said what the answer to a prediction should have been; never changed afterwards.

    `contradicts` says whether that differs from `answer`: most corrections confirm it. `at` is when it was said,
    `recorded_at` when it became known here. `fate` says what became of it by the rule for its reporter: `accept`
    makes it a label (as soon as the row is in the dataset), `review` asks a reviewer, `keep` counts it alone,
    because the model was not trained on a label set of this workspace or the prediction has no key.
    """

    id: str
    endpoint: str
    prediction_id: str
    key: str | None
    value: Value
    reporter: str
    at: datetime
    recorded_at: datetime
    answer: Value
    contradicts: bool
    variant: str
    release: str
    model: str
    version: int
    predicted_at: datetime
    label_set: str | None
    fate: Fate


@dataclass(frozen=True)
class Outcome:
    """The truth about a prediction, collected whatever the model answered; what accuracy is measured on.

    `inclusion_probability` is the chance that this prediction's truth was looked for, above 0 and at most 1: an
    estimate weighs each outcome by its inverse. `source` names the design (`audit`, or a feed of later facts);
    estimate within one.
    """

    id: str
    endpoint: str
    prediction_id: str
    key: str | None
    value: Value
    source: str
    inclusion_probability: float
    at: datetime
    recorded_at: datetime
    answer: Value
    is_correct: bool
    variant: str
    release: str
    model: str
    version: int
    predicted_at: datetime


@dataclass(frozen=True)
class ReportedValue:
    """A number that the world said of a prediction, such as what a customer spent. `at` is when it happened."""

    id: str
    endpoint: str
    prediction_id: str
    key: str | None
    name: str
    value: float
    at: datetime
    recorded_at: datetime
    predicted_at: datetime


@dataclass(frozen=True)
class ReviewItem:
    """A prediction that a person is asked about, because it was drawn for the audit or because of a correction.

    `origin` is what it was made for: the prediction's id or the correction's; each makes one item. Show neither
    `answer` nor `suggested` (what the reporter said) before the reviewer has answered: who sees an answer agrees
    with it too often.
    """

    id: str
    endpoint: str
    reason: Reason
    origin: str
    prediction_id: str
    key: str | None
    label_set: str | None
    answer: Value
    suggested: Value | None
    inclusion_probability: float | None
    variant: str
    release: str
    model: str
    version: int
    predicted_at: datetime
    created_at: datetime
    state: Literal["open", "answered"] = "open"
    value: Value | None = None
    reviewer: str | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True)
class AuditSample:
    """A random sample of the predictions made in [start_at, end_at), each variant at its own probability.

    `considered` and `chosen` count predictions by variant; `created` counts the review items that are new.
    """

    id: str
    endpoint: str
    start_at: datetime
    end_at: datetime
    probability: dict[str, float]
    considered: dict[str, int]
    chosen: dict[str, int]
    created: int
    at: datetime
    created_by: str


@dataclass(frozen=True)
class WaitingLabel:
    """A label for a row that is not in the dataset yet; `origin` is the correction or review item behind it."""

    origin: str
    label_set: str
    key: str
    value: Value
    annotator: str
    source: Literal["correction", "review"]
    at: datetime
    prediction_id: str


@dataclass(frozen=True)
class ImportReport:
    """What came of a file of corrections. `unknown` are keys or ids to which no prediction was found."""

    endpoint: str
    file: str | None
    recorded: int
    repeated: int
    contradicting: int
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class VariantCount:
    """Of one variant's release: predictions that were corrected, and those of them that were contradicted."""

    variant: str
    release: str
    model: str
    version: int
    corrected: int
    contradicted: int


@dataclass(frozen=True)
class Contradictions:
    """How often corrections contradict the answers, in predictions, not in reports.

    What a reviewer refuted is left out. `by_class` counts contradicted predictions by (answer, correction).
    It says where models are wrong, never how often: people report what annoys them.
    """

    endpoint: str
    start_at: datetime
    end_at: datetime
    corrected: int
    contradicted: int
    by_variant: tuple[VariantCount, ...]
    by_class: dict[tuple[Value, Value], int]


def fields_of(prediction: Prediction) -> dict[str, Any]:
    """What corrections, outcomes and review items keep of their prediction."""
    return {
        "endpoint": prediction.endpoint,
        "prediction_id": prediction.id,
        "key": prediction.key,
        "answer": prediction.answer,
        "variant": prediction.variant,
        "release": prediction.release,
        "model": prediction.model,
        "version": prediction.version,
        "predicted_at": prediction.at,
    }
