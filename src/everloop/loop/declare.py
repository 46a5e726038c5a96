"""What a user writes in a loop file: declarations, which refer to each other as objects and do nothing by themselves.

Loading a loop file inside `collecting()` gathers what it declares; loading it anywhere else (a notebook, a unit
test, the data plane fetching a feature's function) declares into the void and has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeVar

from everloop.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

    from everloop.checks import Gate
    from everloop.data import Column
    from everloop.jobs import WhenFull
    from everloop.monitoring import Watch
    from everloop.pipelines import Pinned, Pipeline, Secret
    from everloop.predictions import LogPolicy
    from everloop.registry import ApprovalRule, StagePolicy
    from everloop.retraining import Condition
    from everloop.rollout import Canary, RoutingRule
    from everloop.searches import Plan as SearchPlan
    from everloop.searches import Rule, Space
    from everloop.serving import Limits
    from everloop.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")
Kind = Literal[
    "dataset",
    "labels",
    "feature",
    "pipeline",
    "model",
    "endpoint",
    "retraining",
    "trigger",
    "limit",
    "pool",
    "search",
    "scoring",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")
_WINDOW = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


if TYPE_CHECKING:
    # In a pipeline's body a declaration stands for its rows, as a step's result stands for what the step will return.
    # Type checkers are told so, and loop files pass declarations to steps that take tables.
    Rows = pa.Table
else:

    class Rows:
        """What declarations that stand for rows share: they have none of a table's attributes, and say why."""

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):  # what copying, debuggers and notebooks probe for
                raise AttributeError(name)
            raise AttributeError(
                f"{self.kind} {self.name!r} has no {name!r}: a declaration stands for its rows only where a pipeline's "
                "body gives it to a step. Look at the rows inside a function with @el.step."
            )


@dataclass(frozen=True)
class DeclaredDataset(Rows):
    """A dataset; given to a pipeline it stands for its newest version, pinned when the run starts."""

    kind = "dataset"
    name: str
    key: str
    time: str | None
    inputs: tuple[str, ...]
    declared_columns: tuple[Column, ...] | None
    # filled by the features that name this dataset, which are declared after it
    features: list[DeclaredFeature[..., Any]] = field(default_factory=list, compare=False, repr=False)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """What computes columns of its rows when they are loaded: part of the code of the steps that take them."""
        return tuple(one.__wrapped__ for one in self.features)

    def pin(self, ws: Workspace) -> Pinned:
        from everloop.loop import sources  # noqa: PLC0415  (rooms are loaded when a run starts, not when a file declares)

        return sources.pin_dataset(ws, self)

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        from everloop.loop import sources  # noqa: PLC0415  (as above)

        return sources.load_dataset(ws, self, ref)


@dataclass(frozen=True)
class DeclaredLabels(Rows):
    """A label set; given to a pipeline it stands for a snapshot taken when the run starts."""

    kind = "labels"
    name: str
    of: DeclaredDataset
    classes: str | tuple[str, ...]
    per_item: int
    rule: Literal["latest", "majority", "reviewer_wins"]
    reports: Mapping[str, Literal["accept", "review"]]

    def pin(self, ws: Workspace) -> Pinned:
        from everloop.loop import sources  # noqa: PLC0415  (as above)

        return sources.pin_labels(ws, self)

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        from everloop.loop import sources  # noqa: PLC0415  (as above)

        return sources.load_labels(ws, ref)


@dataclass(frozen=True)
class DeclaredFeature(Generic[P, R]):
    """A feature of a dataset's rows; calling it calls the function."""

    kind = "feature"
    name: str
    of: DeclaredDataset
    by: str
    window: timedelta
    __wrapped__: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)


@dataclass(frozen=True)
class DeclaredModel:
    kind = "model"
    name: str
    pipeline: Pipeline[..., Any]
    gates: tuple[Gate, ...]
    approve: ApprovalRule | None
    stages: tuple[StagePolicy, ...] = ()


@dataclass(frozen=True)
class DeclaredEndpoint:
    kind = "endpoint"
    name: str
    model: DeclaredModel
    rollout: Canary
    watch: tuple[Watch, ...]
    key: str | None
    stickiness: Literal["request", "key"]
    log: LogPolicy
    rules: tuple[RoutingRule, ...] | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class DeclaredRetraining:
    kind = "retraining"
    name: str
    model: DeclaredModel
    cron: str | None
    time_zone: str
    when: Condition | None
    cooldown: timedelta


@dataclass(frozen=True)
class AllMissed:
    """Every missed instant of a schedule runs, of the newest `at_most`."""

    at_most: int


@dataclass(frozen=True)
class DeclaredTrigger:
    kind = "trigger"
    name: str
    pipeline: Pipeline[..., Any]
    params: Mapping[str, Any]
    cron: str | None
    time_zone: str
    catch_up: Literal["skip", "latest"] | AllMissed
    jitter_s: int
    when: Condition | None
    quiet: timedelta
    longest_wait: timedelta | None
    cooldown: timedelta
    priority: int


@dataclass(frozen=True)
class DeclaredPool:
    kind = "pool"
    name: str
    at_most: int


@dataclass(frozen=True)
class DeclaredLimit:
    kind = "limit"
    name: str
    pipeline: Pipeline[..., Any]
    at_most: int | None
    when_full: WhenFull
    pool: DeclaredPool | None


@dataclass(frozen=True)
class DeclaredSearch:
    kind = "search"
    name: str
    pipeline: Pipeline[..., Any]
    plan: SearchPlan


@dataclass(frozen=True)
class DeclaredScoring:
    """`name` is the dataset of the answers; `rows` a dataset or the text of a query."""

    kind = "scoring"
    name: str
    of: DeclaredEndpoint | DeclaredModel
    rows: DeclaredDataset | str
    database: str | None
    key: str | None
    cron: str | None
    time_zone: str
    when: Condition | None
    only_new: bool

    @property
    def trigger(self) -> str:
        """The name of the trigger that begins it."""
        return f"score-{self.name}"


Declared = (
    DeclaredDataset
    | DeclaredLabels
    | DeclaredFeature[..., Any]
    | DeclaredModel
    | DeclaredEndpoint
    | DeclaredRetraining
    | DeclaredTrigger
    | DeclaredPool
    | DeclaredLimit
    | DeclaredSearch
    | DeclaredScoring
)
D = TypeVar("D", bound=Declared)


@dataclass
class Collection:
    """What one loop file declares, in its order."""

    declared: list[Declared] = field(default_factory=list)

    def add(self, new: Declared) -> None:
        _check_references(new)
        for known in self.declared:
            if (known.kind, known.name) == (new.kind, new.name):
                raise Invalid(
                    f"the loop file declares the {new.kind} {new.name!r} twice; each name stands once. Rename one."
                )
        self.declared.append(new)

    def of(self, kind: type[D]) -> list[D]:
        return [one for one in self.declared if isinstance(one, kind)]


_collecting: ContextVar[Collection | None] = ContextVar("everloop_collecting", default=None)


@contextmanager
def collecting() -> Iterator[Collection]:
    """Gather what is declared meanwhile."""
    collection = Collection()
    token = _collecting.set(collection)
    try:
        yield collection
    finally:
        _collecting.reset(token)


def dataset(
    name: str,
    *,
    key: str,
    time: str | None = None,
    inputs: Sequence[str],
    columns: Sequence[Column] | None = None,
) -> DeclaredDataset:
    """A table that grows: rows with a key and, for anything that depends on time, an event time.

    Parameters
    ----------
    inputs
        The columns that a live request will carry: the only ones that may become model inputs.
    columns
        Types and constraints; left out, they are read from the first file ingested.
    """
    if not inputs:
        raise Invalid(
            f"dataset {name!r} has no inputs; name the columns that a live request carries, such as ['title']."
        )
    return _declare(
        DeclaredDataset(
            _name(name), key, time, tuple(inputs), tuple(columns) if columns is not None else None
        )
    )


def label_set(
    name: str,
    *,
    of: DeclaredDataset,
    classes: str | Path | Sequence[str],
    per_item: int = 1,
    rule: Literal["latest", "majority", "reviewer_wins"] = "latest",
    reports: Mapping[str, Literal["accept", "review"]] | None = None,
) -> DeclaredLabels:
    """What is true of a dataset's rows, and who says so.

    Parameters
    ----------
    classes
        The taxonomy: a CSV or Parquet file (a path beside the loop file) or the names of the classes.
    per_item
        How many people label each item.
    reports
        What happens to a correction by who reports it: `accept` makes it a label at once, `review` asks a person.
        Reporters that are not named are reviewed.
    """
    if per_item < 1:
        raise Invalid(f"labels {name!r} ask {per_item} people per item; that is at least 1.")
    stated = str(classes) if isinstance(classes, str | Path) else tuple(classes)
    return _declare(DeclaredLabels(_name(name), of, stated, per_item, rule, dict(reports or {})))


def feature(
    *, of: DeclaredDataset, by: str, window: str | timedelta, name: str | None = None
) -> Callable[[Callable[P, R]], DeclaredFeature[P, R]]:
    """A value computed from what the same entity did before: point in time in training, online in serving.

    The function gets the rows of the same `by` whose event time lies within `window` before the row's own, and
    returns an int, a float or a str.
    """
    if of.time is None:
        raise Invalid(
            f"dataset {of.name!r} declares no time column, so nothing is before anything. Declare it with time=."
        )

    def decorate(function: Callable[P, R]) -> DeclaredFeature[P, R]:
        title = _name(name or str(getattr(function, "__name__", "feature")))
        declared = _declare(DeclaredFeature(title, of, by, duration(window), function))
        of.features.append(declared)
        return declared

    return decorate


def model(
    name: str,
    pipeline: Pipeline[..., Any],
    *,
    gates: Sequence[Gate] = (),
    approve: ApprovalRule | None = None,
    stages: Sequence[StagePolicy] = (),
) -> DeclaredModel:
    """What a pipeline's result is registered as, what it must pass, and who must agree before it is released.

    Gates for schema, leakage, duplicates (near ones too) and class coverage are on without being named, and a version that
    is clearly worse than the live one fails.

    Parameters
    ----------
    stages
        The stages that a version goes through on its way, in order, each with terms of its own: `el.stage(...)`. A release
        must meet those of the last.
    """
    return _declare(DeclaredModel(_name(name), pipeline, tuple(gates), approve, tuple(stages)))


def endpoint(
    name: str,
    model: DeclaredModel,
    *,
    rollout: Canary,
    watch: Sequence[Watch] = (),
    key: str | None = None,
    stickiness: Literal["request", "key"] = "request",
    log: LogPolicy | None = None,
    rules: Sequence[RoutingRule] | None = None,
    limits: Limits | None = None,
) -> DeclaredEndpoint:
    """Where a model's released versions answer, how a new one takes over, and what is watched.

    Parameters
    ----------
    key
        The input that is the key of a request which names none: what a sticky route and corrections by key go by, such as
        `customer`. Left out, only the `key` that a request names is its key.
    stickiness
        `key` keeps each key on one version while a rollout runs; `request` deals each request anew.
    limits
        What the model may take, such as `el.limits(memory_mb=500, deadline_ms=200)`.
    log
        How predictions are logged: `el.prediction_log(...)`; left out, each one is logged whole and kept for ever.
    rules
        Which requests a version answers whatever chance deals: `el.rule("staff", to="candidate", header="X-Staff")`. They
        replace those that there are; left out, what `everloop endpoints rule` made stays.
    """
    policy = prediction_log() if log is None else log
    audited = max((getattr(one, "audit", 0.0) for one in watch), default=0.0)
    if policy.sample < audited:
        raise Invalid(
            f"endpoint {name!r} logs {policy.sample:g} of its predictions and audits {audited:g} of them; what is audited must "
            f"be in the log. Log at least as many: el.prediction_log(sample={audited:g})."
        )
    given = None if rules is None else tuple(rules)
    return _declare(
        DeclaredEndpoint(_name(name), model, rollout, tuple(watch), key, stickiness, policy, given, limits)
    )


def prediction_log(
    *,
    sample: float = 1.0,
    sample_failed: float = 1.0,
    inputs: Literal["keep", "hash", "drop"] = "keep",
    keep_days: float | None = None,
    when_full: Literal["refuse", "serve"] = "refuse",
) -> LogPolicy:
    """How an endpoint's predictions are logged; without it each one is logged whole, before its answer, and kept for ever.

    Parameters
    ----------
    sample, sample_failed
        The shares that are kept of what was answered, and of what failed or was refused. Each record says its chance.
        While versions are compared, in a rollout, its watch or a split, everything is logged.
    inputs
        `keep` keeps inputs as the schema says of each column; `hash` and `drop` hold for all of them.
    keep_days
        After so many days records are removed; None keeps them.
    when_full
        `refuse` answers nothing that cannot be logged; `serve` answers, and says so in a header, in the worker's state and
        as a finding.
    """
    from everloop.predictions import LogPolicy  # noqa: PLC0415  (rooms are loaded when something of theirs is declared)

    if inputs not in ("keep", "hash", "drop") or when_full not in ("refuse", "serve"):
        raise Invalid(
            f"the prediction log has inputs={inputs!r} and when_full={when_full!r}; inputs is 'keep', 'hash' or 'drop', "
            "when_full 'refuse' or 'serve'. Choose one of each."
        )
    try:
        return LogPolicy(sample, sample_failed, inputs, keep_days, when_full)
    except ValueError as error:
        raise Invalid(f"the prediction log cannot be as declared: {error}.") from error


def retrain(
    model: DeclaredModel,
    *,
    cron: str | None = None,
    time_zone: str = "UTC",
    when: Condition | None = None,
    cooldown_h: float = 24.0,
) -> DeclaredRetraining:
    """When a model is trained again: at fixed times, when something was found, or both."""
    if cron is None and when is None:
        raise Invalid(
            f"retraining of {model.name!r} states neither cron= nor when=; it would never happen. State one."
        )
    return _declare(DeclaredRetraining(model.name, model, cron, time_zone, when, timedelta(hours=cooldown_h)))


def trigger(
    pipeline: Pipeline[..., Any],
    *,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    cron: str | None = None,
    time_zone: str = "UTC",
    catch_up: Literal["skip", "latest"] | AllMissed = "latest",
    jitter_s: int = 0,
    when: Condition | None = None,
    quiet_s: float = 0.0,
    longest_wait_s: float | None = None,
    cooldown_h: float = 0.0,
    priority: int = 0,
) -> DeclaredTrigger:
    """Run a pipeline by itself: at fixed times, when something was found or told, when it is called, or by hand.

    Parameters
    ----------
    name
        What it is called by; the pipeline's name when left out.
    params
        Values for the pipeline's parameters. The text `{instant}` stands for the schedule's instant, or for when it fired.
    catch_up
        What becomes of instants that passed while nothing ran: `skip`, the `latest` alone, or `el.all_missed(at_most=10)`.
    jitter_s
        Fire up to so many seconds after the instant, so that not everything starts at once.
    quiet_s, longest_wait_s
        Fire when the condition has held and nothing more has come for so long, but wait no longer than that.
    cooldown_h
        After a firing, nothing fires for so long; what comes meanwhile counts afterwards.
    priority
        Higher ones run first when more waits than can run.
    """
    return _declare(
        DeclaredTrigger(
            _name(name or pipeline.name),
            pipeline,
            dict(params or {}),
            cron,
            time_zone,
            catch_up,
            jitter_s,
            when,
            timedelta(seconds=quiet_s),
            None if longest_wait_s is None else timedelta(seconds=longest_wait_s),
            timedelta(hours=cooldown_h),
            priority,
        )
    )


def scoring(
    of: DeclaredEndpoint | DeclaredModel,
    rows: DeclaredDataset | str,
    *,
    to: str,
    cron: str | None = None,
    time_zone: str = "UTC",
    when: Condition | None = None,
    only_new: bool = False,
    key: str | None = None,
    database: Secret | None = None,
) -> DeclaredScoring:
    """Score rows by itself, at fixed times or when something was found, into versions of the dataset `to`.

    The trigger `score-TO` begins it: it can be fired by hand and paused as any other. The same answers again make no version.

    Parameters
    ----------
    of
        An endpoint: the version that answers most of its traffic when the scoring begins; a model: the one released last.
    rows
        A dataset, whose newest version is scored, or one SELECT over datasets.
    only_new
        Score only rows whose key has no answer yet, and keep the answers that are there.
    key
        The column that names a row in the answers; None: the dataset's key, a query's first column.
    database
        `el.secret(...)`, whose value is the URL of the database that the SELECT is asked in.
    """
    if isinstance(rows, DeclaredDataset) and (rows.name == to or database is not None):
        what = (
            "are to become the same dataset" if rows.name == to else "come from everloop, not from a database"
        )
        raise Invalid(
            f"the rows {rows.name!r} and their answers {what}; a scoring reads one and writes another. Name another."
        )
    if cron is None and when is None:
        raise Invalid(
            f"the scoring into {to!r} states neither cron= nor when=; it would never begin. State one."
        )
    secret = None if database is None else database.name
    return _declare(DeclaredScoring(_name(to), of, rows, secret, key, cron, time_zone, when, only_new))


def all_missed(*, at_most: int) -> AllMissed:
    """For `catch_up`: run every missed instant, oldest first, of the newest `at_most`."""
    return AllMissed(at_most)


def pool(name: str, at_most: int) -> DeclaredPool:
    """Places that the pipelines share whose limits name it: a GPU, a licence, a source that bears one reader."""
    return _declare(DeclaredPool(_name(name), at_most))


def limit(
    pipeline: Pipeline[..., Any],
    at_most: int | None = None,
    *,
    when_full: WhenFull = "queue",
    pool: DeclaredPool | None = None,
) -> DeclaredLimit:
    """How often a pipeline may run at once by background work, whatever starts it.

    Parameters
    ----------
    when_full
        What becomes of a further run: it waits (`queue`), it is refused (`refuse`), or the oldest that waits or runs is
        cancelled for it (`cancel_oldest`).
    pool
        Whose places its runs take.
    """
    if when_full not in ("queue", "refuse", "cancel_oldest"):
        raise Invalid(f"when_full is {when_full!r}; it is 'queue', 'refuse' or 'cancel_oldest'.")
    if at_most is None and pool is None:
        raise Invalid(
            f"the limit of pipeline {pipeline.name!r} states neither at_most= nor pool=; it limits nothing. State one."
        )
    return _declare(DeclaredLimit(pipeline.name, pipeline, at_most, when_full, pool))


def search(
    pipeline: Pipeline[..., Any],
    *,
    space: Space,
    by: str,
    method: str = "random",
    trials: int | None = None,
    highest: bool = True,
    parallel: int = 1,
    stop: Rule | None = None,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    name: str | None = None,
) -> DeclaredSearch:
    """Try parameters of a pipeline, each trial a run of it: `everloop search run NAME` begins.

    Parameters
    ----------
    space
        What may be tried, by parameter: `el.choice("a", "b")`, `el.between(0.01, 100, log=True)`, `el.between(1, 9)`.
    by
        What the best is told by: a metric of the model that the pipeline returns, or what it returns under this name.
    method
        `random`; `grid`, every combination; or `optuna`, which learns from the trials so far (the extra `optuna`).
    trials
        How many; a grid has an end of its own.
    highest
        Whether more is better.
    parallel
        How many run at once.
    stop
        Which trials are stopped early: `el.median()` or `el.halving()`, by what their steps tell with `el.report`.
    params
        Parameters that all trials have.
    """
    from everloop.searches import Plan  # noqa: PLC0415  (a file that declares no search loads none)

    plan = Plan(space, by, method, trials, highest, parallel, seed, stop, params)
    return _declare(DeclaredSearch(_name(name or pipeline.name), pipeline, plan))


def duration(text: str | timedelta) -> timedelta:
    """A span such as `30m`, `12h`, `7d` or `2w`.

    >>> duration("7d")
    datetime.timedelta(days=7)
    """
    if isinstance(text, timedelta):
        return text
    match = _WINDOW.fullmatch(text.strip())
    if match is None or int(match.group(1)) == 0:
        raise Invalid(
            f"{text!r} is not a span of time; write a whole number and s, m, h, d or w, such as '7d'."
        )
    return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot be a name: it begins with a small letter and goes on with small letters, digits, _ or -, "
            "60 at most."
        )
    return name


def _check_references(new: Declared) -> None:
    """Refuse what is not what a declaration refers to, such as its name, and a cron expression that is none."""
    # a loop file is loaded by who needs these anyway; a notebook that only declares does not
    from everloop.jobs import check_cron  # noqa: PLC0415
    from everloop.pipelines import Pipeline  # noqa: PLC0415
    from everloop.retraining import Condition  # noqa: PLC0415

    taken: dict[str, tuple[Any, str]] = {
        "pipeline": (Pipeline, "a function with @el.pipeline"),
        "model": (DeclaredModel, "what el.model(...) returned"),
        "of": (DeclaredDataset, "what el.dataset(...) returned"),
        "rows": (DeclaredDataset | str, "what el.dataset(...) returned, or the text of a query"),
        "pool": (DeclaredPool | None, "what el.pool(...) returned"),
        "when": (Condition | None, "a condition, such as el.arrived(...)"),
    }
    if isinstance(new, DeclaredScoring):
        taken["of"] = DeclaredEndpoint | DeclaredModel, "what el.endpoint(...) or el.model(...) returned"
    for name, (kinds, words) in taken.items():
        if name in new.__dataclass_fields__ and not isinstance(value := getattr(new, name), kinds):
            raise Invalid(
                f"the {new.kind} {new.name!r} has {name}={value!r}; that is to be {words}. Give it itself, not its name."
            )
    if isinstance(new, DeclaredScoring) and isinstance(new.rows, str) and new.rows.isidentifier():
        raise Invalid(
            f"the scoring into {new.name!r} is of the rows {new.rows!r}, which is no query. Give the dataset that el.dataset(...) "
            "returned, or a SELECT."
        )
    cron = getattr(new, "cron", None)
    if cron is not None:
        check_cron(cron, getattr(new, "time_zone", "UTC"))


def _declare(new: D) -> D:
    collection = _collecting.get()
    if collection is not None:
        collection.add(new)
    return new
