"""Two runs beside each other: what they were made of, what came of them, and where their models answer differently."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import data, labels, registry, tracking
from everloop.errors import NotFound
from everloop.pipelines.ingredients import (
    Difference,
    differences,
    hardware_differences,
    software_differences,
)
from everloop.pipelines.plan import Plan
from everloop.pipelines.reading import held_out_answers, pipeline_run
from everloop.pipelines.records import PipelineRun
from everloop.pipelines.verdict import NumberDifference, Numbers, number_differences
from everloop.workspace import Workspace

Right = Literal["before", "neither", "after"]
_RIGHT: tuple[Right, ...] = (
    "before",
    "neither",
    "after",
)  # in the order in which rows are listed: worse first

Part = Literal["environment", "machine", "data", "labels"]

_COMMIT_TAG = "mlflow.source.git.commit"  # by which MLflow's clients tell of the code
_CONTEXT_TAG = "mlflow.data.context"  # what a dataset was read for
_LISTED = 20  # rows of each list, unless more are asked for


@dataclass(frozen=True)
class FileDifference:
    """A source file that differs, as a unified diff of its lines."""

    path: str
    diff: str


@dataclass(frozen=True)
class DataDifference:
    """Another version of a dataset: how many rows were added, removed and changed, and the first of each by key.

    The counts are None when the two are versions of different datasets.
    """

    name: str
    before: str | None
    after: str | None
    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    keys: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class LabelChange:
    """A row whose label differs, with who decided it; None where it had no label."""

    key: str
    before: str | float | None
    after: str | float | None
    by: tuple[str, ...]


@dataclass(frozen=True)
class LabelDifference:
    """Another snapshot of a label set: how many rows got, lost and changed their label, and the first of them."""

    name: str
    before: str | None
    after: str | None
    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    rows: tuple[LabelChange, ...] = ()


@dataclass(frozen=True)
class AnswerChange:
    """A row of both test sets that the two models answer differently, and which of them is right.

    `label` is the one that the second run had. Of two numbers the nearer one counts as right.
    """

    row_id: int
    key: str | None
    label: str | float
    before: str | float
    after: str | float
    right: Right


@dataclass(frozen=True)
class AnswerDifference:
    """How two models' answers differ on the `shared` rows that neither was trained on.

    Of the `differing` ones, `right_before` were right in the first run alone and `right_after` in the second alone. `rows`
    lists those that got worse first.
    """

    shared: int
    only_before: int
    only_after: int
    differing: int
    right_before: int
    right_after: int
    rows: tuple[AnswerChange, ...]


@dataclass(frozen=True)
class Comparison:
    """All that differs between two runs; an empty part is the same in both unless it is one of the `unknown` ones.

    `unknown` are the parts that are not on record of both. `code_problem` says why the code could not be compared,
    `answers` is None when not both runs made a model.
    """

    before: str
    after: str
    code: tuple[FileDifference, ...]
    environment: tuple[Difference, ...]
    hardware: tuple[Difference, ...]
    data: tuple[DataDifference, ...]
    labels: tuple[LabelDifference, ...]
    parameters: tuple[Difference, ...]
    metrics: tuple[NumberDifference, ...]
    answers: AnswerDifference | None
    code_problem: str | None = None
    unknown: tuple[Part, ...] = ()


def compare(ws: Workspace, before: str, after: str, *, limit: int = _LISTED) -> Comparison:
    """What differs between two runs; each is a run's id or a model version (`category@3`), which means its run.

    Works for every tracked run; labels and answers are known of pipelines' runs alone, and of the data that other runs
    read, what their clients told.

    Parameters
    ----------
    limit
        How many rows each list shows at most; the counts are of all.

    Raises
    ------
    NotFound
        There is no such run or version, or a version was logged without a run.
    """
    old, new = (tracking.run(ws, _run_of(ws, name)) for name in (before, after))
    made = _pipeline_run(ws, old.id), _pipeline_run(ws, new.id)
    logged = _logged_data(ws, old), _logged_data(ws, new)
    code, problem = _code(ws, old, new)
    return Comparison(
        before=old.id,
        after=new.id,
        code=code,
        environment=tuple(_environment(ws, old.environment, new.environment)),
        hardware=tuple(hardware_differences(tracking.machine_of(old), tracking.machine_of(new))),
        data=(
            *_data(ws, *(_pins(one, "dataset_version") for one in made), limit=limit),
            *(DataDifference(*one) for one in _changed(*logged)),
        ),
        labels=_labels(ws, *(_pins(one, "label_snapshot") for one in made), limit=limit),
        parameters=tuple(_parameters((old, made[0]), (new, made[1]))),
        metrics=tuple(number_differences(Numbers("", old.metrics, new.metrics), tolerance=0.0)),
        answers=_answers(ws, *made, limit=limit),
        code_problem=problem,
        unknown=tuple(_unknown((old, new), made, logged)),
    )


def _run_of(ws: Workspace, name: str) -> str:
    if "@" not in name:
        return name
    version = registry.version(ws, name)
    if version.run is None:
        raise NotFound(
            f"{version.ref} was registered without a run; runs are compared. Name another version."
        )
    return version.run


def _pipeline_run(ws: Workspace, run_id: str) -> PipelineRun | None:
    """The run as a pipeline's; None for one that was logged by hand."""
    try:
        return pipeline_run(ws, run_id)
    except NotFound:
        return None


def _logged_data(ws: Workspace, run: tracking.Run) -> dict[str, str]:
    """The digests of the data that a client told of, by the data's name and what it was read for."""
    found: dict[str, list[str]] = {}
    for one in tracking.found_run(ws, run.id).datasets:
        context = one.tags.get(_CONTEXT_TAG)
        name = f"{one.dataset.name} ({context})" if context else one.dataset.name
        found.setdefault(name, []).append(one.dataset.digest)
    return {name: ", ".join(sorted(digests)) for name, digests in found.items()}


def _unknown(
    runs: tuple[tracking.Run, tracking.Run],
    made: tuple[PipelineRun | None, PipelineRun | None],
    logged: tuple[Mapping[str, str], Mapping[str, str]],
) -> Iterator[Part]:
    if any(one.environment is None for one in runs):
        yield "environment"
    if any(tracking.machine_of(one) is None for one in runs):
        yield "machine"
    if not all(run is not None or data for run, data in zip(made, logged, strict=True)):
        yield "data"
    if None in made:
        yield "labels"


def _code(
    ws: Workspace, before: tracking.Run, after: tracking.Run
) -> tuple[tuple[FileDifference, ...], str | None]:
    if before.code is None and after.code is None:
        return (), f"of neither run code was captured{_commits(before, after)}."
    if before.code is None or after.code is None:
        return (), f"of the {'first' if before.code is None else 'second'} run no code was captured."
    if before.code == after.code:
        return (), None
    old, new = tracking.code(ws, before.code).files, tracking.code(ws, after.code).files
    changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return tuple(
        FileDifference(path, _diff(ws, path, old.get(path), new.get(path))) for path in changed
    ), None


def _commits(before: tracking.Run, after: tracking.Run) -> str:
    """What the runs' clients told of their code, to be said after a comma."""
    old, new = (one.tags.get(_COMMIT_TAG) for one in (before, after))
    if old is None or new is None:
        return ""
    return f"; both were at commit {old}" if old == new else f"; they were at commits {old} and {new}"


def _diff(ws: Workspace, path: str, before: str | None, after: str | None) -> str:
    old, new = (
        [] if digest is None else ws.blobs.get(digest).decode(errors="replace").splitlines()
        for digest in (before, after)
    )
    names = ("/dev/null" if before is None else f"a/{path}", "/dev/null" if after is None else f"b/{path}")
    return "\n".join(difflib.unified_diff(old, new, *names, lineterm=""))


def _environment(ws: Workspace, before: str | None, after: str | None) -> list[Difference]:
    if before == after or before is None or after is None:
        return []
    return software_differences(tracking.environment(ws, before), tracking.environment(ws, after))


def _parameters(
    before: tuple[tracking.Run, PipelineRun | None], after: tuple[tracking.Run, PipelineRun | None]
) -> list[Difference]:
    """Parameters of the run and the constants that its steps are called with, and the seed."""
    old, new = (Plan.from_json(made.plan) if made is not None else None for _, made in (before, after))
    found = differences("parameter", before[0].params, after[0].params)
    if old is not None and new is not None:
        found += differences("parameter", _constants(old), _constants(new))
        found += differences("seed", {"of the run": old.seed}, {"of the run": new.seed})
    return found


def _constants(plan: Plan) -> dict[str, str]:
    return {f"{step.name}.{name}": value for step in plan.steps for name, value in step.parameters.items()}


def _pins(run: PipelineRun | None, kind: str) -> dict[str, str]:
    """What a run used, by the name of the input."""
    return {} if run is None else {name: one.ref for name, one in run.pins.items() if one.kind == kind}


def _changed(
    before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[tuple[str, str | None, str | None]]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _data(
    ws: Workspace, before: Mapping[str, str], after: Mapping[str, str], *, limit: int
) -> tuple[DataDifference, ...]:
    return tuple(_rows(ws, name, old, new, limit) for name, old, new in _changed(before, after))


def _rows(ws: Workspace, name: str, before: str | None, after: str | None, limit: int) -> DataDifference:
    if before is None or after is None or before.partition("@")[0] != after.partition("@")[0]:
        return DataDifference(name, before, after)
    found = data.diff(ws, before, after)
    tables = {"added": found.added, "removed": found.removed, "changed": found.changed}
    return DataDifference(
        name,
        before,
        after,
        **{what: rows.num_rows for what, rows in tables.items()},
        keys={what: _keys_in(rows, limit) for what, rows in tables.items()},
    )


def _keys_in(rows: pa.Table, limit: int) -> tuple[str, ...]:
    """The keys of a table's first rows, or their row ids where the dataset has no key."""
    return tuple(map(str, rows.column(rows.num_columns - 1).slice(0, limit).to_pylist()))


def _labels(
    ws: Workspace, before: Mapping[str, str], after: Mapping[str, str], *, limit: int
) -> tuple[LabelDifference, ...]:
    return tuple(_relabelled(ws, name, old, new, limit) for name, old, new in _changed(before, after))


def _relabelled(
    ws: Workspace, name: str, before: str | None, after: str | None, limit: int
) -> LabelDifference:
    if before is None or after is None:
        return LabelDifference(name, before, after)
    old, new = (labels.read_snapshot(ws, digest) for digest in (before, after))
    both, at_old, at_new = _shared(old, new)
    differs = _column(old, "label")[at_old] != _column(new, "label")[at_new]
    is_lost, is_got = (~np.isin(_ids(one), both) for one in (old, new))
    rows = itertools.chain(
        _label_changes(old.take(at_old[differs]), new.take(at_new[differs])),
        _label_changes(None, new.filter(pa.array(is_got))),
        _label_changes(old.filter(pa.array(is_lost)), None),
    )
    return LabelDifference(
        name,
        before,
        after,
        added=int(is_got.sum()),
        removed=int(is_lost.sum()),
        changed=int(differs.sum()),
        rows=tuple(itertools.islice(rows, limit)),
    )


def _label_changes(before: pa.Table | None, after: pa.Table | None) -> Iterator[LabelChange]:
    there = after if after is not None else before
    if there is None:
        return
    old, new = (
        itertools.repeat(None) if one is None else iter(one["label"].to_pylist()) for one in (before, after)
    )
    for row in there.select(["key", "annotators"]).to_pylist():
        yield LabelChange(row["key"], next(old), next(new), tuple(row["annotators"]))


def _answers(
    ws: Workspace, before: PipelineRun | None, after: PipelineRun | None, *, limit: int
) -> AnswerDifference | None:
    if before is None or after is None:
        return None
    old, new = (held_out_answers(ws, run.id) for run in (before, after))
    if old is None or new is None:
        return None
    return answer_difference(old, new, keys=lambda row_ids: _keys(ws, after, row_ids), limit=limit)


def answer_difference(
    before: pa.Table,
    after: pa.Table,
    *,
    keys: Callable[[NDArray[np.int64]], Mapping[int, str]],
    limit: int,
) -> AnswerDifference:
    """Two models' answers on their test rows: tables with `_row_id`, `label` and `predicted`.

    `keys` gives the keys of the rows that are listed, as far as there are any.
    """
    both, at_before, at_after = _shared(before, after)
    truth = _column(after, "label")[at_after]
    was, now = _column(before, "predicted")[at_before], _column(after, "predicted")[at_after]
    right = _right(truth, was, now)
    at = np.flatnonzero(was != now)
    worse_first = at[np.argsort(right[at], kind="stable")][:limit]
    named = keys(both[worse_first])
    return AnswerDifference(
        shared=len(both),
        only_before=before.num_rows - len(both),
        only_after=after.num_rows - len(both),
        differing=len(at),
        right_before=int((right[at] == _RIGHT.index("before")).sum()),
        right_after=int((right[at] == _RIGHT.index("after")).sum()),
        rows=tuple(
            AnswerChange(
                int(both[one]), named.get(int(both[one])), truth[one], was[one], now[one], _RIGHT[right[one]]
            )
            for one in worse_first
        ),
    )


def _right(truth: NDArray[Any], was: NDArray[Any], now: NDArray[Any]) -> NDArray[np.int64]:
    """For each row which of two answers is right, as a position in `_RIGHT`; of two numbers the nearer one."""
    if isinstance(truth[0] if len(truth) else None, float):
        old_is_better, new_is_better = (
            abs(was - truth) < abs(now - truth),
            abs(now - truth) < abs(was - truth),
        )
    else:
        old_is_better, new_is_better = (was == truth) & (now != truth), (now == truth) & (was != truth)
    return np.select([old_is_better, new_is_better], [0, 2], 1)


def _keys(ws: Workspace, run: PipelineRun, row_ids: NDArray[np.int64]) -> dict[int, str]:
    """The keys of rows by their ids, as far as a dataset of the run has them."""
    for ref in _pins(run, "dataset_version").values():
        key = data.version(ws, ref).schema.key
        if key is not None:
            rows = data.read(ws, ref, columns=[key], row_ids=row_ids.tolist())
            return {row["_row_id"]: str(row[key]) for row in rows.to_pylist()}
    return {}


def _shared(
    before: pa.Table, after: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The row ids that two tables share, and where each has them."""
    both, at_before, at_after = np.intersect1d(
        _ids(before), _ids(after), assume_unique=True, return_indices=True
    )
    return both, at_before, at_after


def _ids(rows: pa.Table) -> NDArray[np.int64]:
    return np.asarray(rows["_row_id"])


def _column(rows: pa.Table, name: str) -> NDArray[Any]:
    """A column as Python's values, so that they are compared as such and can be told."""
    return np.array(rows[name].to_pylist(), dtype=object)
