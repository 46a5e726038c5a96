"""What a check is given, what it answers, and what a gate asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from everloop.checks.plots import Plot
from everloop.checks.source import source_digest
from everloop.errors import Invalid
from everloop.serving import Manifest, Signature
from everloop.storage import Blobs

Verdict = Literal["passed", "failed", "warned", "skipped"]
Task = Literal["class", "number"]
Numbers = Mapping[str, float | int | None]

ROW_ID = "_row_id"
EVIDENCE_ROWS = 20


@dataclass(frozen=True)
class CheckResult:
    """What one check says of a candidate.

    `found`, `rule` and `remedy` are the three parts of its message. `numbers` are finite or None and are
    explained in the check's description. `evidence` are `_row_id`s of rows to look at, at most 20, and
    `details` rows of a small table (one a column, a class, a slice). No cell's content is in any of them. `plot` is
    what a picture of it shows.
    A user's check may leave out `rule` and `remedy`: those that `check` was told are filled in.
    """

    name: str
    verdict: Verdict
    found: str
    rule: str = ""
    remedy: str = ""
    numbers: Numbers = field(default_factory=dict)
    evidence: tuple[int, ...] = ()
    details: tuple[dict[str, Any], ...] = ()
    plot: Plot | None = None

    def __post_init__(self) -> None:
        if unknown := [name for name, value in self.numbers.items() if not _is_finite(value)]:
            raise Invalid(
                f"check {self.name!r} gives {', '.join(unknown)} as a number that is not finite; a number of a "
                "check is finite, or None when it is not known. Give None."
            )

    @property
    def message(self) -> str:
        return f"{self.found} {self.rule} {self.remedy}"


@dataclass(frozen=True)
class FeatureTest:
    """A user's own statement about the rows, such as `price is positive`.

    `function` gets the training rows, then the test rows. It returns whether the statement holds, or a boolean
    array with one value a row (null counts as broken).
    """

    name: str
    function: Callable[[pa.Table], Any]


@dataclass(frozen=True)
class Loadable:
    """A version as serving would load it: what its files are, and the blobs that they are in."""

    manifest: Manifest
    blobs: Blobs


@dataclass(frozen=True)
class Live:
    """The version that answers now, on the rows that the candidate was evaluated on.

    `predictions` has `_row_id` and `predicted`. `metrics` are its logged ones: used only for a metric that
    cannot be computed from predictions.
    """

    version: str
    predictions: pa.Table | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    loadable: Loadable | None = None


@dataclass(frozen=True)
class Traffic:
    """What an endpoint was asked in [start, end): the inputs of its requests, typed as the model's signature says."""

    endpoint: str
    start: datetime
    end: datetime
    rows: pa.Table


@dataclass(frozen=True)
class CheckInput:
    """All that checks may look at.

    Parameters
    ----------
    train, test
        The rows that the model learnt from and those that it was measured on; `_row_id` names a row. They may
        hold more columns than the inputs, which is what leakage through a group is found by.
    inputs
        The columns that a request brings and the model sees.
    features
        The columns that are computed for the model besides. They count for leakage and drift; that two rows are
        copies is told by their inputs alone, since a feature of the same listing differs from day to day.
    group
        The column whose values must not be on both sides of the split.
    classes
        All classes of the label schema; None when the labels are numbers or the schema is not known.
    predictions
        `_row_id`, `label` and `predicted` for the test rows.
    reference
        The rows of the last snapshot, with the same columns.
    shifts
        Distances (0 to 1) per column between the last snapshot and this one, when they are measured already.
    answer
        The model itself: from rows with all `columns` to its answers, one a row; None when it is not at hand.
    chances
        As `answer`, to the probability of each class, one a row; None when the model gives none.
    loadable
        The model's files, which a process of its own loads to measure them; None when they are not at hand.
    annotators
        `_row_id` and `annotator`: who gave each row its label; None when it is not known.
    traffic
        Reads what the live endpoint was asked lately; it gives None, and may be None, when nothing is live.
    """

    train: pa.Table
    test: pa.Table
    inputs: tuple[str, ...]
    features: tuple[str, ...] = ()
    label: str = "label"
    key: str | None = None
    time: str | None = None
    group: str | None = None
    classes: tuple[str, ...] | None = None
    signature: Signature | None = None
    predictions: pa.Table | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reference: pa.Table | None = None
    shifts: Mapping[str, float] | None = None
    live: Live | None = None
    feature_tests: tuple[FeatureTest, ...] = ()
    answer: Callable[[pa.Table], Sequence[Any]] | None = None
    chances: Callable[[pa.Table], Mapping[str, Sequence[float]]] | None = None
    loadable: Loadable | None = None
    annotators: pa.Table | None = None
    traffic: Callable[[], Traffic | None] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that the model sees: inputs, then features."""
        return self.inputs + self.features

    @property
    def task(self) -> Task:
        """`number` when the labels are floating-point numbers, else `class`."""
        for table in (self.train, self.test):
            if self.label in table.column_names and pa.types.is_floating(table.schema.field(self.label).type):
                return "number"
        return "class"


OwnFunction = Callable[..., CheckResult | bool | None]


@dataclass(frozen=True)
class Check:
    """A check and what a reader of its result needs to know; `numbers` explains each number it gives.

    Called with a `CheckInput` and, by keyword, the options of its gate.
    """

    name: str
    question: str
    rule: str
    remedy: str
    function: Callable[..., Any]
    numbers: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    is_default: bool = False
    is_users: bool = False
    timeout_s: float = 0.0  # of a user's check, after which it is killed
    how: Callable[..., CheckResult] | None = (
        None  # what judges the model by a user's function, as behaviour tests do
    )
    digest: str | None = None  # of what a check is made of that is no code, as a golden file
    refused: Callable[[Gate], str] | None = None  # why a gate about it makes no sense, if it makes none

    def __call__(self, given: CheckInput, **options: Any) -> Any:
        return self.function(given, **options) if self.how is None else self.how(self, given, **options)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.function

    @cached_property
    def source(self) -> str | None:
        """The digest of a user's check as it was when a gate first named it; None for a built-in one."""
        return source_digest(self.function) if self.is_users else self.digest


@dataclass(frozen=True)
class Gate:
    """One condition on a model version: a check that must not fail, or a rule for a metric. See `gate`.

    `source` is the digest of a user's check: a gate whose check was changed is another gate, which has not been run.
    """

    about: str
    at_least: float | None = None
    at_most: float | None = None
    below_live_by_at_most: float | None = None
    confidence: float | None = None
    min_rows: int | None = None
    trusted: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    measure: str | None = None
    positive: str | None = None
    source: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return {name: value for name, value in self.as_json().items() if name not in ("about", "source")}

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Gate:
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list | tuple)}
        return cls(**{**stored, **lists})


@dataclass(frozen=True)
class Evidence:
    """The digests that a gate report is bound to; `checked` is of the rows, labels and predictions looked at."""

    model: str | None = None
    data: str | None = None
    labels: str | None = None
    code: str | None = None
    environment: str | None = None
    checked: str | None = None


@dataclass(frozen=True)
class GateReport:
    """All results for one model version, on stated evidence. `verdict` does not know of waivers."""

    id: str
    model_version: str
    evidence: Evidence
    gates: tuple[Gate, ...]
    results: tuple[CheckResult, ...]
    verdict: Literal["passed", "failed"]
    at: datetime
    by: str

    def result(self, check: str) -> CheckResult | None:
        return next((one for one in self.results if one.name == check), None)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        return tuple(one for one in self.results if one.verdict == "failed")


@dataclass(frozen=True)
class Waiver:
    """Somebody's decision, with a reason, to let a failed check of one report pass until a time."""

    report: str
    check: str
    reason: str
    until: datetime
    by: str
    at: datetime


@dataclass(frozen=True)
class Standing:
    """Where a report stands at a time: what blocks, and what was waived and still is."""

    report: GateReport
    blocking: tuple[CheckResult, ...]
    waived: tuple[Waiver, ...]

    @property
    def is_clear(self) -> bool:
        return not self.blocking


def _is_finite(value: float | int | None) -> bool:
    return value is None or math.isfinite(value)
