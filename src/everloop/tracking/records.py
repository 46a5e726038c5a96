"""What the room stores and hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from everloop.errors import Invalid

RunKind = Literal["run", "pipeline", "step", "rerun"]
RunStatus = Literal["scheduled", "running", "finished", "failed", "killed"]
ModelStatus = Literal["pending", "ready", "upload_failed"]
OwnerKind = Literal["run", "model", "trace"]
ENDS: frozenset[RunStatus] = frozenset({"finished", "failed", "killed"})

DEFAULT_EXPERIMENT = "Default"

NAME_LENGTH = 250  # MLflow's limit, so that everything logged here can be read by its clients
PARAM_LENGTH = 6_000
TAG_LENGTH = 8_000
EXPERIMENT_NAME_LENGTH = 500
EXPERIMENT_TAG_LENGTH = 20_000

# The tags under which MLflow's clients see and set what is a column here.
NAME_TAG = "mlflow.runName"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
PINNED_TAG = "everloop.pinned"
# Where MLflow's clients say what a trace is called, and in which run it was made.
TRACE_NAME_TAG = "mlflow.traceName"
TRACE_RUN = "mlflow.sourceRun"
# Of the URIs that tell clients that files are with everloop, behind its artifact proxy.
PROXY_SCHEME = "mlflow-artifacts"


@dataclass(frozen=True)
class Experiment:
    """A name that runs are kept under. `created_at` is None for the one that every workspace begins with.

    `artifact_root` is where clients keep the files of its runs, None: with everloop. A deleted one keeps its name.
    """

    id: int
    name: str
    created_at: datetime | None
    artifact_root: str | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run. `metrics` hold the newest value of each: of the highest step, then the latest time, then the last logged.

    `started_at` and `ended_at` are domain time. `code` and `environment` are digests. `client_user` is who the client
    said runs it, `actor` who was recognised; `artifact_uri` is where the client keeps its files, None: with everloop.
    """

    id: str
    experiment: str
    name: str
    kind: RunKind
    status: RunStatus
    parent: str | None
    actor: str
    started_at: datetime
    ended_at: datetime | None
    error: str | None
    code: str | None
    environment: str | None
    client_user: str | None = None
    artifact_uri: str | None = None
    deleted_at: datetime | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_steps(self) -> bool:
        """Whether it is a pipeline's run, for the first time or again, of which `pipelines` knows the steps."""
        return self.kind in ("pipeline", "rerun")

    @property
    def mlflow_id(self) -> str:
        """The id that MLflow's clients see: 32 hex digits."""
        return self.id.removeprefix("run_")


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric, at a step of the training and a domain time. NaN and infinities are values too."""

    name: str
    value: float
    step: int
    at: datetime


@dataclass(frozen=True)
class ModelMetric:
    """A point that says something of a logged model, perhaps on one dataset: name and digest are empty without one."""

    model: str
    point: MetricPoint
    dataset_name: str = ""
    dataset_digest: str = ""


@dataclass(frozen=True)
class LoggedDataset:
    """What a client says of data that a run read; `schema` and `profile` are texts in the client's own form."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class DatasetInput:
    """A dataset that a run read, with tags of this use of it."""

    dataset: LoggedDataset
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunModel:
    """A logged model that a run read (`input`) or made (`output`, at a step of its training)."""

    model: str
    role: Literal["input", "output"]
    step: int = 0


@dataclass(frozen=True)
class FoundMetric:
    """A point of a logged model's metric, and the run that logged it."""

    of: ModelMetric
    run: str


@dataclass(frozen=True)
class LoggedModel:
    """A model that a client logged, as MLflow 3 knows them: `models:/ID` is its name for clients.

    `kind` is what its client calls its type, `run` the run that made it, if one did. It is `pending` until its client says
    that all files are there. `artifact_uri` is where the client keeps them, None: with everloop. `metrics` are the 1,000
    newest points, and of each metric on each dataset the newest, oldest first.
    """

    id: str
    experiment_id: int
    name: str
    kind: str | None
    status: ModelStatus
    run: str | None
    actor: str
    created_at: datetime
    updated_at: datetime
    artifact_uri: str | None = None
    deleted_at: datetime | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[FoundMetric] = ()

    @property
    def keeping(self) -> Keeping:
        return Keeping(self.experiment_id, self.artifact_uri)

    @property
    def mlflow_id(self) -> str:
        """The id that MLflow's clients see."""
        return self.id


class RawPoint(NamedTuple):
    """A point as it is read by the ten thousand; `at_us` are microseconds since 1970."""

    name: str
    value: float
    step: int
    at_us: int


Axis = Literal["step", "time"]


@dataclass(frozen=True)
class Thinned:
    """Of each stretch of a history the lowest and the highest point, and its mean at its middle."""

    points: Sequence[RawPoint]
    means: Sequence[RawPoint]


@dataclass(frozen=True)
class History:
    """A metric of a run over an axis, in order of it: all its points, or when there are too many some, as `thin` chooses them.

    `over` is `time` also where steps were asked for, of a metric that was always logged at the same one.
    """

    run: str
    over: Axis
    points: Sequence[RawPoint]
    count: int
    means: Sequence[RawPoint] | None = None


@dataclass(frozen=True)
class FoundRun:
    """A run as a search hands it out: with the newest point of each metric, and what it read and made."""

    run: Run
    experiment_id: int
    latest: Sequence[RawPoint] = ()
    datasets: Sequence[DatasetInput] = ()
    models: Sequence[RunModel] = ()


@dataclass(frozen=True)
class Artifact:
    """A file of a run: its path among the run's files, and the blob that holds its content."""

    path: str
    digest: str
    size_bytes: int
    at: datetime


class Entry(NamedTuple):
    """What is in a folder of files: a file with its size, or a folder without one."""

    path: str
    is_folder: bool
    size_bytes: int | None
    at: datetime


class DatasetUse(NamedTuple):
    """A dataset that runs of an experiment read, and what for."""

    experiment_id: int
    name: str
    digest: str
    context: str | None


@dataclass(frozen=True)
class Trace:
    """What one call of a program did. `state` is MLflow's word; `request` and `response` are previews of what went in and out.

    `metadata` was said with the trace, `tags` may change; `artifact_uri` is where the client keeps its files, None: with
    everloop.
    """

    id: str
    experiment_id: int
    state: str
    started_at: datetime
    duration_ms: int | None
    request: str | None
    response: str | None
    client_request_id: str | None
    actor: str = ""
    artifact_uri: str | None = None
    deleted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def mlflow_id(self) -> str:
        return self.id


class Keeping(NamedTuple):
    """Where the files of a run, a logged model or a trace are: below its experiment with everloop, or where `artifact_uri` says."""

    experiment_id: int
    artifact_uri: str | None

    @property
    def is_ours(self) -> bool:
        """Whether everloop keeps the files, and not their client."""
        return self.artifact_uri is None or self.artifact_uri.startswith(f"{PROXY_SCHEME}:")


@dataclass(frozen=True)
class Code:
    """The source files of a project at one moment.

    `files` maps a path below the project's folder to the blob of its content. `commit` is the git commit they are
    based on and `diff` the blob of what was changed since, both None outside git; `folder` is where in the repository
    the project lies. `is_dirty` says that the commit alone does not give these files. `problem` is what git said
    when it could not be asked.
    """

    digest: str
    commit: str | None
    is_dirty: bool
    diff: str | None
    folder: str | None
    files: Mapping[str, str]
    problem: str | None = None


@dataclass(frozen=True)
class Environment:
    """The software that code ran on: Python, platform, and each installed package with its version.

    `editable` names the packages that are installed from a folder in place, whose version says little about their code.
    """

    digest: str
    python: str
    implementation: str
    platform: str
    packages: tuple[tuple[str, str], ...]
    editable: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Environment:
        """An environment from its fields as JSON holds them."""
        packages = tuple((name, version) for name, version in told["packages"])
        return cls(**{**told, "packages": packages, "editable": tuple(told["editable"])})

    def version_of(self, package: str) -> str | None:
        """The version of an installed package, None when it is not installed."""
        return dict(self.packages).get(package)


@dataclass(frozen=True)
class Machine:
    """What a run was computed on, as far as it can move a result's last digits.

    `cores` are those that the process might use, `threads` the variables that limit libraries to fewer; `hash_seed` is
    PYTHONHASHSEED, or "random": then the order of sets of texts differs between processes.
    """

    processor: str
    cores: int
    threads: Mapping[str, str]
    hash_seed: str


def check_texts(what: str, values: Mapping[str, Any], *, length: int) -> dict[str, str]:
    """Named values as the texts that are stored: texts as they are, everything else as JSON.

    Raises Invalid for a name or value that cannot be stored.
    """
    return {check_name(what, name): _text(what, name, value, length) for name, value in values.items()}


def _text(what: str, name: str, value: Any, length: int) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"the value of {name!r} is a {type(value).__name__}; the value of {what} is text, a number, true or false, or "
            "a list or dict of them. Log what describes it, for example str(value)."
        ) from error
    if len(text) > length or "\0" in text:
        raise Invalid(
            f"the value of {name!r} has {len(text)} characters; {what} holds up to {length}, none of them NUL. "
            "Log it as a file with log_artifact."
        )
    return text


def check_name(what: str, name: str, *, length: int = NAME_LENGTH) -> str:
    """A name as it may be stored. Raises Invalid when it is empty, too long or holds control characters."""
    if not name or len(name) > length or not name.isprintable():
        shown = name if len(name) <= 40 else f"{name[:40]}... ({len(name)} characters)"
        raise Invalid(
            f"{shown!r} cannot name {what}: a name has 1 to {length} printable characters. Choose a shorter or plainer one."
        )
    return name


def shown(text: str) -> str:
    """A text in quotes, as a message shows it: not more than its beginning."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def owner_kind(owner: str) -> OwnerKind:
    """What an id of an owner of files is: a logged model's, a trace's or a run's."""
    return "model" if owner.startswith("m-") else "trace" if owner.startswith("tr-") else "run"
