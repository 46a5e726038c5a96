"""What a pipeline run, a step run, a stored result and a declared input are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from everloop.pipelines.rendering import state, table

if TYPE_CHECKING:
    from everloop.workspace import Workspace

# A run is `pausing` while what runs of it ends.
RunState = Literal["running", "pausing", "paused", "done", "failed", "cancelled"]
StepState = Literal["running", "done", "cached", "failed", "interrupted", "skipped", "ran_anyway"]


@dataclass(frozen=True)
class Pinned:
    """Which form of a declared input a run uses, for good.

    `ref` is what its room calls it: `listings@3` for `dataset_version`, a digest for `label_snapshot` and `file`, an id for
    `release`. `digest` is of the content; empty when `ref` names nothing but one content.
    """

    kind: Literal["dataset_version", "label_snapshot", "file", "release"]
    ref: str
    digest: str = ""


@runtime_checkable
class Source(Protocol):
    """A declared data set or label set, as a pipeline's body names it: rows that are settled when a run starts.

    Pipelines that everloop brings along also take a file's rows and a released model in this way. One that is loaded with
    libraries that take long to import may have `imports`, their names.
    """

    @property
    def name(self) -> str: ...

    def pin(self, ws: Workspace) -> Pinned:
        """What it is right now."""
        ...

    def load(self, ws: Workspace, ref: str) -> Any:
        """The rows of what was pinned, as a table."""
        ...


@dataclass(frozen=True)
class Stored:
    """A result that a step made, as it is kept: by content.

    `digest` is of all of it. `note` is what is small, as JSON text (a small JSON value is there whole), and `files` names
    the blobs of the rest by their paths; a long note is among them. `metrics` are those of a model.
    """

    kind: str
    digest: str
    size_bytes: int
    note: str | None
    files: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


Touch = Literal["read", "wrote", "connected", "ran"]


@dataclass(frozen=True)
class Touched:
    """Something that a step touched without declaring it: a file, a host with its port, or a program.

    `name` of a file is relative to the project's folder when it is in there; with a `count` it is a folder's, of that many
    files. `state` is a read file's size and date, so that it can be told that it is another one now.
    """

    what: Touch
    name: str
    count: int = 1
    state: str | None = None


@dataclass(frozen=True)
class StepRun:
    """One attempt at a step of a run, its result taken from an earlier run (`cached`), or that it was `skipped`.

    A failed one has an output when it is optional: None. One that always runs and `ran_anyway`, though the run had failed,
    is not finished: it runs again when the run is resumed. A call of a map is a step run of its own, `fit[3]`, beside that of the map, `fit`.

    `made_by` is the step run that made the output: itself, or for a cached one the original. `token` is the run's
    fencing token under which it ran. Times are domain time; `seconds` is what it took. `touched` is what it used without
    declaring it, as far as that was noticed.
    """

    id: str
    run: str
    node: str
    attempt: int
    step: str
    state: StepState
    token: int
    key: str | None
    parts: Mapping[str, Any]
    output: Stored | None
    made_by: str | None
    tracking_run: str | None
    log: str | None
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    touched: tuple[Touched, ...] = ()

    @property
    def is_call(self) -> bool:
        """Whether it is one of the calls of a map, of which there may be thousands."""
        return self.node.endswith("]")


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline; its id is that of its tracking run. `steps` are its attempts in the order they began.

    `pins` says by input what was used. `output` is the result's binding as in the plan; `pipelines.result` loads it.
    """

    id: str
    pipeline: str
    entry: str
    reason: str
    state: RunState
    params: Mapping[str, Any]
    pins: Mapping[str, Pinned]
    plan: Mapping[str, Any]
    code: str | None
    environment: str
    token: int
    worker: str
    lease_until: datetime | None
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    steps: tuple[StepRun, ...] = ()

    def _repr_html_(self) -> str:
        rows = [
            (one.node, state(one.state), one.seconds, one.output.kind if one.output else None, one.error)
            for one in self.steps
            if not one.is_call
        ]
        heading = f"{self.pipeline} {state(self.state)}"
        columns = ("step", "state", "seconds", "made", "error")
        return table(
            heading, columns, rows, note=f"{self.id}. Began because: {self.reason}. {self.error or ''}"
        )


@dataclass(frozen=True)
class Share:
    """The right of one process to work on one step of a run, or one call of a map, while others work on others.

    `node` is the journal's name for it, "" for all of the run; `holder` names the process's claim, which no other has.
    """

    run: str
    node: str
    holder: str
    worker: str
    lease_until: datetime


ProgressKind = Literal[
    "run_started",
    "step_started",
    "step_cached",
    "step_done",
    "step_retried",
    "step_failed",
    "step_skipped",
    "run_ended",
    "step_touched",
    "environment_built",
]


@dataclass(frozen=True)
class Progress:
    """Something that a run tells while it goes on.

    `label` names the step with its parameters, such as `fit(c=4)`; `done` of `total` steps have ended, the calls of a map
    counted from when it begins; `seconds` is
    what the step or, at the end, the run took; `message` is an error's or the retry's first line, or what a step touched
    without declaring it, or that its environment is built first.
    """

    kind: ProgressKind
    run: str
    node: str
    label: str
    done: int
    total: int
    seconds: float | None = None
    message: str = ""


OnProgress = Callable[[Progress], None]


Part = Literal["source", "environment", "parameter", "input", "seed"]


@dataclass(frozen=True)
class Change:
    """One part of a step's cache key that differs. `before` or `after` is None where it was not there."""

    part: Part
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Why:
    """Why a step ran or was taken from the cache.

    `compared_with` is the step run that was looked at: the original of a cached one, else the last finished one
    before it.
    """

    node: str
    answer: Literal["cached", "first", "changed", "uncached", "lost", "repeated", "skipped", "chosen"]
    changes: tuple[Change, ...]
    compared_with: str | None
    sentence: str

    def _repr_html_(self) -> str:
        rows = [(f"{one.part} {one.name}", one.before, one.after) for one in self.changes]
        return table(self.sentence, ("what", "before", "after") if rows else (), rows)
