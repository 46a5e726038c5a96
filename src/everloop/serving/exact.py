"""Whether a compiled plan answers as the model does, row by row; and whether it is quicker here.

Asked twice: when a version is released, on real rows and on made-up ones, and the finding stands in the manifest; and when
a serving process loads it, on fewer. What is kept to answer columns is compared at the release alone: no library answers there that
could be of another version. Classes must be the same; probabilities may differ by 1e-9, and numbers by 1e-9 of
themselves or of 1, whichever is more. A row that the model refuses, the plan must refuse.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import blake3
import numpy as np
from msgspec.structs import replace

from everloop.compiled import (
    RULES,
    Answered,
    NotCompiledError,
    Plan,
    Scoring,
    UnreadableError,
    UnsureError,
    kept_of,
    plan_of,
    read,
    written,
)
from everloop.errors import MissingExtra
from everloop.serving.loaded import Loaded, Rows, class_names
from everloop.serving.made_up import made_up
from everloop.serving.records import Compiled, Field, Manifest

logger = logging.getLogger(__name__)

TOLERANCE = 1e-9
ONNX_TOLERANCE = 1e-5
CONVERTERS = "everloop.converters"
MOST_ROWS = 512  # real ones that are compared when a version is released
_MADE_UP, _AT_LOADING = 256, 32
_MOST_LEFT = 0.5  # of the rows that the model answers; with more left to the model, a plan is no gain
_MOST_REFUSED = 24  # rows that the model refuses alone
_QUICK_US = 200.0  # handing work to a thread costs about as much
_HELD_US = 1_000.0  # how long one batch may hold the event loop up


@dataclass(frozen=True)
class Quick:
    """A verified plan, and up to how many rows it is used: at all, and without a thread. `is_onnx`: it is a conversion to ONNX."""

    plan: Plan
    most_rows: int
    rows_at_once: int
    is_onnx: bool = False


@dataclass
class Compared:
    """What comparing found so far; `problem` is empty as long as the plan is as good as the model."""

    rows: int = 0
    difference: float = 0.0
    left: int = 0
    problem: str = ""
    answered: list[list[Any]] = field(default_factory=list)
    tolerance: float = TOLERANCE

    def saw(self, difference: float, where: str) -> None:
        if difference == np.inf:  # which JSON, and so the manifest, has no word for
            self.problem = f"the plan gives another answer than the model {where}"
            return
        self.difference = max(self.difference, difference)
        if difference > self.tolerance:
            self.problem = f"the plan differs from the model {where}, by {difference:.2g}"


def verified(manifest: Manifest, model: Loaded, real: Sequence[Sequence[Any]] = ()) -> Compiled:
    """Compare the plan of a version's model with the model: on the real rows, and on made-up ones.

    Parameters
    ----------
    real
        Rows of the signature's inputs in order, then the features, as the model takes them; the first 512 count.

    Raises UnreadableError for a model that no other program should be given either.
    """
    told = Compiled(manifest.digest, RULES, library(), is_used=False)
    try:
        plan = _plan(manifest, model)
    except NotCompiledError as error:
        return replace(told, reason=str(error))
    return _compared(told, plan, manifest, model, real)


def verified_onnx(
    manifest: Manifest, model: Loaded, told: Compiled, real: Sequence[Sequence[Any]] = ()
) -> tuple[Compiled, bytes]:
    """For a model without a plan: as `verified`, of its conversion to ONNX, and the conversion.

    `told` is what was found about the plan. Classes must be the same; probabilities and numbers may differ by 1e-5, for what is
    converted counts in single precision.
    """
    if model.estimator is None:
        return told, b""
    try:
        content = _onnx_of(model.estimator, _fields(manifest))
        plan = _onnx_plan(content, model)
    except (NotCompiledError, MissingExtra) as error:
        return replace(told, reason=f"{told.reason}; not converted to ONNX: {error}"), b""
    found = _compared(told, plan, manifest, model, real, tolerance=ONNX_TOLERANCE)
    if not found.is_used:
        reason = found.reason.replace("the plan", "its conversion to ONNX", 1)
        return replace(told, reason=f"{told.reason}; {reason}"), b""
    return replace(found, onnx=blake3.blake3(content).hexdigest()), content


def verified_columns(
    manifest: Manifest, model: Loaded, told: Compiled, real: Sequence[Sequence[Any]] = ()
) -> tuple[Compiled, bytes]:
    """As `verified`, of what can be kept of the model to answer columns without its library: `told` with its digest, and the data.

    As told, and nothing, for a model of which nothing can be kept, or nothing that answers as it does.
    """
    fields = _fields(manifest)
    if model.estimator is None or model.takes_numbers:
        return told, b""
    try:
        content = written(kept_of(model.estimator, columns=len(fields)))
        scoring = Scoring.of(read(content))
    except (NotCompiledError, UnreadableError) as error:
        logger.debug("nothing is kept of %s@%s: %s", manifest.model, manifest.version, error)
        return told, b""
    kept = scoring.kept
    if kept.classes != manifest.signature.classes or (kept.shares is None) != (model.probabilities is None):
        return told, b""
    found = _compared(told, _of_columns(scoring, fields), manifest, model, real)
    if not found.is_used:
        logger.warning(
            "what was kept of %s@%s is not used: %s", manifest.model, manifest.version, found.reason
        )
        return told, b""
    return replace(told, columns=blake3.blake3(content).hexdigest()), content


def _of_columns(scoring: Scoring, fields: Sequence[Field]) -> Plan:
    """What answers columns, asked about rows, to be compared."""
    import pyarrow as pa  # noqa: PLC0415  (only where versions are released)

    types = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    names = None if scoring.kept.classes is None else np.array(scoring.kept.classes, dtype=object)

    last: tuple[Rows | None, Answered | None] = (None, None)  # both its outputs and its shares are asked for

    def ask(rows: Rows) -> Answered:
        nonlocal last
        asked, found = last
        if found is None or asked is not rows:
            cells = [rows[:, place].tolist() for place in range(len(fields))]
            columns = [pa.array(some, types.get(one.type)) for some, one in zip(cells, fields, strict=True)]
            found = scoring.answer([pa.chunked_array([one]) for one in columns])
            last = rows, found
        if not found.sure.all():
            raise UnsureError
        return found

    def predict(rows: Rows) -> Rows:
        outputs = ask(rows).outputs
        return outputs if names is None else names[outputs]

    return Plan(predict, None if scoring.kept.shares is None else lambda rows: np.asarray(ask(rows).shares))


def _compared(
    told: Compiled,
    plan: Plan,
    manifest: Manifest,
    model: Loaded,
    real: Sequence[Sequence[Any]],
    *,
    tolerance: float = TOLERANCE,
) -> Compiled:
    rows = [list(row) for row in real[:MOST_ROWS]]
    found = compare(plan, model, [*rows, *made_up(manifest, model, _MADE_UP)], tolerance=tolerance)
    return replace(
        told,
        is_used=not found.problem,
        reason=found.problem,
        rows=found.rows,
        real_rows=len(rows),
        left=found.left,
        difference=found.difference,
    )


def quick(manifest: Manifest, model: Loaded, onnx: bytes = b"") -> Quick | str:
    """The plan of a loaded release, or its conversion to `onnx` if that was compared, or why the model itself answers."""
    told = manifest.compiled
    if told is None:
        return "it was released without a comparison; release a new version"
    if not told.is_used:
        return told.reason
    if told.digest != manifest.digest or told.rules != RULES:
        return (
            "the plan that was compared at the release is not the one of this everloop; release a new version"
        )
    if told.library != library():
        return f"it was compared with scikit-learn {told.library}, here is {library()}; release a new version"
    try:
        plan = _onnx_plan(onnx, model) if told.onnx else _plan(manifest, model)
    except (NotCompiledError, MissingExtra) as error:
        return str(error)
    rows = made_up(manifest, model, _AT_LOADING)
    found = compare(plan, model, rows, tolerance=ONNX_TOLERANCE if told.onnx else TOLERANCE)
    if found.problem:
        return found.problem
    paced = _paced(plan, model, found.answered)
    return paced if isinstance(paced, str) else dataclasses.replace(paced, is_onnx=bool(told.onnx))


def library() -> str:
    import sklearn

    return str(sklearn.__version__)


def compare(
    plan: Plan, model: Loaded, rows: Sequence[list[Any]], *, tolerance: float = TOLERANCE
) -> Compared:
    """What asking both says; the plan for rows alone and together, since it may do several rows otherwise than one."""
    found = Compared(tolerance=tolerance)
    theirs = _ways(model, model)
    for number, (row, expected) in enumerate(_each(theirs, rows), start=1):
        found.rows = number
        got = _ask(*_ways(plan, model), _array([row]))
        if got is None:
            found.left += expected is not None
            continue
        if expected is None:
            found.problem = f"row {number} is refused by the model and answered by the plan"
            return found
        found.saw(_difference(expected, got), f"in row {number}")
        if found.problem:
            return found
        found.answered.append(row)
    if found.left > _MOST_LEFT * (found.left + len(found.answered)) or not found.answered:
        found.problem = f"the plan leaves {found.left} of {found.rows} rows to the model and answers {len(found.answered)}"
        return found
    many = _array(found.answered)
    expected, got = _ask(*theirs, many), _ask(*_ways(plan, model), many)
    together = np.inf if expected is None or got is None else _difference(expected, got)
    found.saw(together, "on several rows at once")
    return found


def _plan(manifest: Manifest, model: Loaded) -> Plan:
    if model.estimator is None:
        raise NotCompiledError(f"models of flavor {manifest.flavor} are answered by their own library")
    plan = plan_of(model.estimator, columns=len(manifest.signature.inputs) + len(manifest.features))
    if (plan.probabilities is None) != (model.probabilities is None):
        raise NotCompiledError("the plan and the model do not both have probabilities")
    return plan


def _fields(manifest: Manifest) -> list[Field]:
    return [
        *manifest.signature.inputs,
        *(Field(one.name, one.dtype, nullable=True) for one in manifest.features),
    ]


def _onnx_of(estimator: Any, fields: Sequence[Field]) -> bytes:
    """A fitted model that takes these columns, in ONNX form. Raises NotCompiledError, MissingExtra."""
    content: bytes = _offered("to_onnx")(estimator, fields)
    return content


def _onnx_plan(content: bytes, model: Loaded) -> Plan:
    """What answers in a model's place by its conversion. Raises NotCompiledError, MissingExtra."""
    made: Plan = _offered("onnx")(content, has_probabilities=model.probabilities is not None)
    return made


def _offered(name: str) -> Any:
    (offered,) = entry_points(group=CONVERTERS, name=name)
    return offered.load()


Ask = Callable[[Rows], Rows]
Answers = tuple[Rows, Rows | None]


def _ways(one: Plan | Loaded, model: Loaded) -> tuple[Ask, Ask | None]:
    return one.predict, None if model.probabilities is None else one.probabilities


def _each(
    ways: tuple[Ask, Ask | None], rows: Sequence[list[Any]]
) -> Iterator[tuple[list[Any], Answers | None]]:
    """Rows in order, each with a model's answer, None where it raises.

    Asked of many together as long as none is refused. After some that are refused, rows that come with further ones are left
    out: each would cost a call alone.
    """
    waiting, refused = [rows], 0
    while waiting:
        some = waiting.pop()
        found = _ask(*ways, _array(some))
        if found is not None:
            outputs, shares = found
            for place, row in enumerate(some):
                alone = slice(place, place + 1)
                yield row, (outputs[alone], None if shares is None else shares[alone])
        elif len(some) == 1:
            refused += 1
            yield some[0], None
        elif refused < _MOST_REFUSED:
            half = len(some) // 2
            waiting += [some[half:], some[:half]]


def _ask(predict: Ask, probabilities: Ask | None, rows: Rows) -> Answers | None:
    """Outputs and probabilities; None when one raises."""
    try:
        return np.asarray(predict(rows)), None if probabilities is None else np.asarray(probabilities(rows))
    except Exception:  # noqa: BLE001  (a model may raise anything; then it has no answer)
        return None


def _difference(expected: Answers, got: Answers) -> float:
    """The largest one, of a probability or relative to a number over 1; inf for another class or shape."""
    if expected[0].shape != got[0].shape:
        return np.inf
    if expected[0].dtype.kind in "fiu" and expected[1] is None and got[0].dtype.kind == "f":
        return _apart(expected[0], got[0], relative=True)
    if class_names(expected[0]) != class_names(got[0]):
        return np.inf
    if expected[1] is None or got[1] is None:
        return 0.0
    return np.inf if expected[1].shape != got[1].shape else _apart(expected[1], got[1], relative=False)


def _apart(expected: Rows, got: Rows, *, relative: bool) -> float:
    both_nan = np.isnan(expected) & np.isnan(got)
    size = np.maximum(1.0, np.abs(expected)) if relative else 1.0
    apart = np.where(both_nan, 0.0, np.abs(expected - got) / size)
    return float(np.inf if np.isnan(apart).any() else apart.max(initial=0.0))


def _paced(plan: Plan, model: Loaded, rows: Sequence[list[Any]]) -> Quick | str:
    """Up to how many rows the plan is quicker than the model on this machine, by what one and all of these take."""
    some = (_array(rows[:1]), _array(rows))
    ours = [_least_us(*_ways(plan, model), each, rounds=15) for each in some]
    theirs = [_least_us(*_ways(model, model), each, rounds=3) for each in some]
    if ours[0] >= theirs[0]:
        return f"the plan takes {ours[0]:,.0f} us a row, the model {theirs[0]:,.0f}"
    more = max(1, len(rows) - 1)
    ours_more, theirs_more = max(0.1, (ours[1] - ours[0]) / more), max(0.0, (theirs[1] - theirs[0]) / more)
    most = 1 << 30
    if ours_more > theirs_more:
        most = 1 + int((theirs[0] - ours[0]) / (ours_more - theirs_more))
    at_once = 0 if ours[0] > _QUICK_US else 1 + int((_HELD_US - ours[0]) / ours_more)
    return Quick(plan, most, min(at_once, most))


def _least_us(predict: Ask, probabilities: Ask | None, rows: Rows, *, rounds: int) -> float:
    """The least time of several, which other work on the machine disturbs least."""
    ask, times = probabilities or predict, []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        ask(rows)
        times.append((time.perf_counter_ns() - begun) / 1e3)
    return min(times)


def _array(rows: Sequence[list[Any]]) -> Rows:
    array = np.empty((len(rows), len(rows[0])), dtype=np.object_)
    array[:] = rows
    return array
