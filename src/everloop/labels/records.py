"""What the room keeps and tells: label schemas, label events, snapshots and the reports over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

Value = str | float  # the name of a class, or a number in a label set without classes
Source = Literal["human", "import", "correction", "model", "review"]
Rule = Literal["latest", "majority", "reviewer_wins"]
ReportRule = Literal["accept", "review"]


@dataclass(frozen=True)
class LabelClass:
    """A node of a taxonomy. `id` outlives a change of `name`; `parent` is another class's id, None at the top."""

    id: str
    name: str
    parent: str | None = None


@dataclass(frozen=True)
class LabelSchema:
    """One version of a label set: which answers there are and whose reports are believed.

    `classes` is empty for a label set of numbers. `per_item` is how many annotators each row should have.
    `reports` says what becomes of a correction by its reporter; who is not named in it is reviewed.
    """

    name: str
    number: int
    dataset: str
    kind: Literal["class", "number"]
    classes: tuple[LabelClass, ...]
    per_item: int
    reports: dict[str, ReportRule]
    digest: str
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        return f"{self.name}#{self.number}"

    @cached_property
    def labels(self) -> dict[str, LabelClass]:
        """The classes that a row can be labelled with, by name: those that have no class below them."""
        inner = {one.parent for one in self.classes}
        return {one.name: one for one in self.classes if one.id not in inner}

    def report_rule(self, reporter: str) -> ReportRule:
        return self.reports.get(reporter, "review")


@dataclass(frozen=True)
class NewLabel:
    """What somebody says about one row, named by its key. `at` is when it was said (domain time), None for now."""

    key: str | int
    value: Value
    annotator: str
    source: Source = "human"
    at: datetime | None = None
    shown: dict[str, Any] | None = None
    duration_ms: int | None = None
    prediction_id: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class LabelEvent:
    """Something that was said about a row; never changed afterwards.

    `at` is when it was said, `recorded_at` when it became known here; both are domain time. `shown` is what the
    annotator had before them, `prediction_id` the prediction that was corrected or reviewed, `file` the digest of
    the file that it was imported from.
    """

    id: str
    label_set: str
    schema_number: int
    row_id: int
    key: str
    value: Value
    annotator: str
    source: Source
    at: datetime
    recorded_at: datetime
    shown: dict[str, Any] | None = None
    duration_ms: int | None = None
    prediction_id: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class LabelSnapshot:
    """Label events resolved by `rule` as known at `at`; `digest` names the content, whenever it was resolved.

    `per_class` counts rows by label (empty for numbers), `annotators` counts the rows that each one's word decided.
    `left_out` counts rows whose events all name classes that the schema no longer has.
    """

    digest: str
    name: str
    schema_number: int
    rule: Rule
    at: datetime
    count: int
    left_out: int
    per_class: dict[str, int]
    annotators: dict[str, int]
    blob: str
    created_by: str


@dataclass(frozen=True)
class ImportReport:
    """What came of an import. `repeated` were known already; `unknown_rows` are keys that the dataset lacks."""

    schema: str
    file: str | None
    imported: int
    repeated: int
    unknown_rows: tuple[str, ...]
    per_class: dict[str, int]


@dataclass(frozen=True)
class Conflict:
    """Annotators say different things about one row, and no reviewer has settled it."""

    row_id: int
    key: str
    opinions: dict[str, Value]


@dataclass(frozen=True)
class DuplicateItem:
    """Rows with the same content that carry different labels, in the order of their row ids."""

    row_ids: tuple[int, ...]
    labels: tuple[Value, ...]


@dataclass(frozen=True)
class PairAgreement:
    """Cohen's kappa of two annotators over the rows that both labelled; None where it is undefined."""

    annotators: tuple[str, str]
    rows: int
    agree: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree beyond chance, over the rows that at least two of them labelled unprompted.

    `agree` is the share of pairs of opinions on one row that are equal; `alpha` is Krippendorff's, nominal,
    None where it is undefined because only one class was used.
    """

    rows: int
    annotators: int
    agree: float
    alpha: float | None
    pairs: tuple[PairAgreement, ...]


@dataclass(frozen=True)
class QualityReport:
    """How good a label set is as known at `at`. Lists hold the first 100; the counts are whole."""

    name: str
    schema_number: int
    at: datetime
    rows: int
    labelled: int
    below_per_item: int
    left_out: int
    per_class: dict[str, int]
    thin: dict[str, int]
    conflict_count: int
    conflicts: tuple[Conflict, ...]
    duplicate_groups: int
    duplicate_conflict_count: int
    duplicate_conflicts: tuple[DuplicateItem, ...]
    agreement: Agreement | None = field(default=None)

    @property
    def coverage(self) -> float:
        """The share of the dataset's rows that carry a label, between 0 and 1."""
        return self.labelled / self.rows if self.rows else 0.0
