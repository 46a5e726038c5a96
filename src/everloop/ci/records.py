"""What a check of a change reports. `Report` is the document that report.json holds; docs/reference/ci-report.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from everloop.checks import Moved
from everloop.ci.data_files import Sources

FORMAT = "everloop.ci/1"

Verdict = Literal["passed", "failed"]
Level = Literal["error", "warning", "notice"]


@dataclass(frozen=True)
class Step:
    """A step as a checkout declares it. `source` are the parts of its code with their digests or values.

    `call` is what it is called with, as JSON text; `inputs` are the declared datasets and label sets that it takes, and
    `needs` the steps.
    """

    name: str
    label: str
    source: Mapping[str, str]
    call: str
    needs: tuple[str, ...]
    inputs: tuple[str, ...]
    file: str
    line: int


@dataclass(frozen=True)
class DeclaredPipeline:
    """A pipeline as a checkout declares it; `problem` says why it could not be looked at."""

    name: str
    model: str | None
    steps: tuple[Step, ...]
    output: str
    file: str
    line: int
    problem: str | None = None


@dataclass(frozen=True)
class Look:
    """What a checkout declares, without running anything.

    `declared` is by `kind:name`; `files` are the project's files that its pipelines reach; `lines` says where in the loop
    file models and gates stand (`model:churned`, `gate:churned:macro_f1`); `taxonomies` are the digests of the files with
    classes by label set.
    """

    declared: Mapping[str, Mapping[str, Any]]
    pipelines: tuple[DeclaredPipeline, ...]
    files: tuple[str, ...]
    lines: Mapping[str, int]
    taxonomies: Mapping[str, str]
    packages: Mapping[str, str]

    def pipeline(self, name: str) -> DeclaredPipeline | None:
        return next((one for one in self.pipelines if one.name == name), None)


@dataclass(frozen=True)
class TouchedStep:
    """A step that would not give what it gave on the base, and why."""

    name: str
    label: str
    reasons: tuple[str, ...]


PipelineState = Literal["touched", "new", "gone", "untouched", "asked"]


@dataclass(frozen=True)
class Touched:
    """What the change did to one pipeline. `reasons` are about its model's declaration and its result."""

    pipeline: str
    state: PipelineState
    steps: tuple[TouchedStep, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def is_run(self) -> bool:
        return self.state in ("touched", "new", "asked")


@dataclass(frozen=True)
class StepEnded:
    name: str
    label: str
    state: str
    seconds: float | None
    why: str


@dataclass(frozen=True)
class GateEnded:
    name: str
    verdict: str
    found: str
    rule: str
    remedy: str
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSeen:
    """A dataset version that a run used: its rows, and its columns with their types."""

    name: str
    ref: str
    rows: int
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What came of one pipeline on one side. `failure` says why there is no result; `failed_step` where."""

    pipeline: str
    verdict: Verdict
    run: str | None = None
    version: str | None = None
    steps: tuple[StepEnded, ...] = ()
    gates: tuple[GateEnded, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: tuple[DataSeen, ...] = ()
    failure: str | None = None
    failed_step: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Metric:
    """See `checks.MetricChange`; only `after` is known without a base."""

    name: str
    before: float | None
    after: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    moved: Moved | None = None


@dataclass(frozen=True)
class SliceMoved:
    """See `checks.SliceChange`."""

    column: str
    value: str
    rows: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    moved: Moved


@dataclass(frozen=True)
class DataMoved:
    """A dataset on both sides: rows that were added, removed and changed, and differences of the columns."""

    name: str
    rows_before: int | None
    rows_after: int | None
    added: int | None
    removed: int | None
    changed: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class LabelsMoved:
    name: str
    added: int | None
    removed: int | None
    changed: int | None


@dataclass(frozen=True)
class AnswersMoved:
    """On the rows that both models were tested on: how many are answered differently, and who is right."""

    shared: int
    differing: int
    right_before: int
    right_after: int


@dataclass(frozen=True)
class Compared:
    """One pipeline's runs on both sides, beside each other."""

    metrics: tuple[Metric, ...] = ()
    slices: tuple[SliceMoved, ...] = ()
    data: tuple[DataMoved, ...] = ()
    labels: tuple[LabelsMoved, ...] = ()
    answers: AnswersMoved | None = None
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a side has to do. `base` are the outcomes of the other side that this home holds, by pipeline."""

    act: Literal["look", "run"]
    file: str
    title: str = ""
    home: str = ""
    actor: str = ""
    reason: str = ""
    pipelines: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    base: Mapping[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of it. `problem` is a message for the user: the loop file, or its data, are wrong."""

    look: Look | None = None
    outcomes: tuple[Outcome, ...] = ()
    compared: Mapping[str, Compared] = field(default_factory=dict)
    problem: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineReport:
    """A pipeline in the report: what touched it, what came of it, and how that compares."""

    name: str
    model: str | None
    touched: Touched
    head: Outcome | None = None
    base: Outcome | None = None
    compared: Compared = field(default_factory=Compared)


@dataclass(frozen=True)
class Annotation:
    """A remark at a place of the repository; `about` is what it is about, the same whichever commit."""

    level: Level
    file: str
    line: int
    title: str
    message: str
    about: str


@dataclass(frozen=True)
class Revision:
    """A side of the comparison. `is_cached` says that its results were there from an earlier check."""

    name: str
    commit: str
    is_dirty: bool = False
    is_cached: bool = False


@dataclass(frozen=True)
class Report:
    """All that `everloop ci` found. `verdict` is `passed` or `failed` (exit code 3).

    `problems` are what stands in the way of a verdict or of a comparison, `notes` what a reader should know. `unreached`
    are changed files that no step reaches by its code and that are no declared data.
    """

    verdict: Verdict
    sentence: str
    everloop: str
    file: str
    head: Revision
    base: Revision | None
    changed_files: tuple[str, ...]
    unreached: tuple[str, ...]
    pipelines: tuple[PipelineReport, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    seconds: float
    format: str = FORMAT
