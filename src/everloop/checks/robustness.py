"""How much worse does the model answer when its inputs come as people and sensors really send them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks import photos
from everloop.checks.bootstrap import Estimate, bootstrap
from everloop.checks.columns import Column, Floats, compute, content_columns, floats, kind_of, plain, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Gate, Verdict
from everloop.checks.scored import groups_of, qualities

SEED = 0
_ROWS = 2_000  # test rows that are disturbed, evenly spread
_ROWS_WITH_PHOTOS = 500  # a photo takes milliseconds
_SHARE = 0.1  # of words that get a typo, of fields that are emptied
_NOISE = 0.1  # standard deviations that numbers are moved by
_LONG = 4  # letters from which on a word gets typos
_RELEVANT = 0.05
_DRAWS = 8  # of small disturbances, of which the worst counts
_WORST = "worst"

RULE = (
    "Answers to disturbed test rows must be nearly as good as to the rows themselves: with typos, changed case, missing "
    "fields, noise in numbers or photos that are darker, blurred or cut off the model may lose no more than the gate's limit. "
    "Without a limit, 0.05 or more is a warning."
)
REMEDY = (
    "Make the model less sensitive (lower-case texts, character n-grams, an imputer, coarser numbers, photos brought to one "
    "brightness), or train it on "
    "rows that are disturbed so."
)
NUMBERS = {
    "value": "quality lost by the disturbance that the gate compares with its limit: the one it names, or the worst",
    "limit": "of the gate; none without one",
    "low": "lower end of the value's 95 % interval, by a paired bootstrap",
    "high": "upper end of the value's 95 % interval",
    "lost_by_typos": "with a typo in one of ten longer words of free text, in one word at least",
    "lost_by_case": "with free text in capitals, or in small letters where it was in capitals",
    "lost_by_missing": "with one of ten fields empty: null where the model takes that, else the empty text",
    "lost_by_noise": "with numbers moved by a tenth of their standard deviation, normally distributed",
    "lost_by_worst": "by the worst of 8 small disturbances of each row, typos and noise: for classes the share of rows "
    "answered rightly that one of them makes wrong",
    "lost_by_brightness": "with photos at 0.6 or 1.4 of their brightness",
    "lost_by_contrast": "with photos at 0.6 or 1.4 of their contrast",
    "lost_by_blur": "with photos out of focus by one hundredth of their side (a pixel at least)",
    "lost_by_rotation": "with photos turned by up to 10 degrees",
    "lost_by_jpeg": "with photos written as JPEG of quality 20",
    "lost_by_crop": "with photos cut to 0.85 or more of each side and brought to their size again",
    "quality": "accuracy on the rows as they are; for numbers 1 - mean absolute error / that of the median",
    "rows": "test rows that were disturbed: 2,000 at most, 500 with photos",
    "seed": "of the disturbances: the same rows are disturbed in the same way each time",
}


_Answer = Callable[[pa.Table], Sequence[Any]]


@dataclass(frozen=True)
class Loss:
    """What one disturbance costs: the mean of `lost`, (n_rows,) float64, with a bootstrap."""

    by: str
    estimate: Estimate
    lost: Floats

    def decisive(self, confidence: float | None) -> float:
        is_sure = confidence is not None and len(self.estimate.samples) > 0
        return self.estimate.at(confidence or 0.5) if is_sure else self.estimate.value


def robustness(
    given: CheckInput,
    *,
    measure: str | None = None,
    at_most: float | None = None,
    confidence: float | None = None,
) -> CheckResult:
    """The quality that is lost on the same test rows under each disturbance; one that fits no input is left out.

    Fails when the loss by `measure` (one of `DISTURBANCES` or `worst`; without it the largest but that of `worst`) is
    above `at_most`, as measured or with `confidence` by its bound, and when the model raises on disturbed rows.
    """
    rule = RULE if at_most is None else _rule(measure, at_most, confidence)
    numbers: dict[str, float | int | None] = dict.fromkeys(NUMBERS)

    def failed(found: str, remedy: str = REMEDY) -> CheckResult:
        return CheckResult("robustness", "failed", found, rule, remedy, numbers)

    if given.answer is None:
        return failed("The model itself is not at hand, only its answers.", "Train it through its pipeline.")
    rows = _labelled(given)
    if isinstance(rows, str):
        return failed(rows)
    before = _answered(given.answer, given, rows, rows[given.label])
    if isinstance(before, str):
        return failed(f"On the test rows as they are, {before}.")
    numbers |= {"limit": at_most, "quality": float(before.mean()), "rows": rows.num_rows, "seed": SEED}
    found = _losses(given, rows, before, given.answer, measure)
    if isinstance(found, str):
        return failed(found)
    losses, of_worst = found
    numbers["lost_by_worst"] = None if of_worst is None else of_worst.estimate.value
    if not losses:
        tried = _SAYS[measure] if measure else "any of the disturbances"
        return failed(
            f"No input can be disturbed by {tried}.", "Take the gate away, or name another measure."
        )
    worst = max(losses, key=lambda one: one.decisive(confidence))
    verdict: Verdict = "passed"
    if at_most is not None:
        verdict = "passed" if worst.decisive(confidence) <= at_most else "failed"
    elif worst.estimate.value >= _RELEVANT:
        verdict = "warned"
    return CheckResult(
        name="robustness",
        verdict=verdict,
        found=_found(float(before.mean()), rows.num_rows, losses, worst) + _told_of(of_worst, worst),
        rule=rule,
        remedy="Nothing to do." if verdict == "passed" else REMEDY,
        numbers={**numbers, **_numbers(losses, worst)},
        evidence=() if verdict == "passed" else _most_lost(rows, worst),
        details=tuple(_row(one) for one in losses),
        plot=plot(
            "intervals",
            [_point(one, rows.num_rows, is_marked=verdict != "passed" and one is worst) for one in losses],
            at="disturbance",
            value="quality lost",
            limits={"the gate's limit": at_most}
            if at_most is not None
            else {"from here on a warning": _RELEVANT},
        ),
    )


def refused(gate: Gate) -> str:
    """Why a gate about robustness makes no sense; empty when it does."""
    known = (*DISTURBANCES, _WORST)
    if gate.measure is not None and gate.measure not in known:
        return f"has the measure {gate.measure!r}; it is one of {', '.join(known)}. Name one of these."
    if gate.at_most is None and gate.confidence is not None:
        return "has no limit to compare with. Give at_most."
    return ""


def _labelled(given: CheckInput) -> pa.Table | str:
    """The test rows to disturb; or what is missing."""
    if missing := [name for name in given.columns if name not in given.test.column_names]:
        return f"The test rows have no column {', '.join(missing)}."
    if given.label not in given.test.column_names:
        return "The test rows have no labels."
    rows = given.test.filter(compute.is_valid(given.test[given.label]))
    if rows.num_rows == 0:
        return "No test row has a label."
    most = _ROWS_WITH_PHOTOS if any(_is_photo(given, name) for name in given.inputs) else _ROWS
    if rows.num_rows > most:
        rows = rows.take(np.linspace(0, rows.num_rows - 1, most).astype(np.int64))
    return rows


def _answered(model: _Answer, given: CheckInput, rows: pa.Table, labels: Column) -> Floats | str:
    """Each row's share of the quality of the model's answers, (n_rows,) float64; or how the model failed."""
    try:
        answers = pa.array(list(model(rows)))
    except Exception as error:  # noqa: BLE001  (a model may raise anything on rows it never saw: that is the finding)
        return f"the model raised {type(error).__name__}"
    if len(answers) != rows.num_rows:
        return f"the model gave {len(answers)} answers to {rows.num_rows} rows"
    known, share = qualities(pa.table({"label": labels, "predicted": answers}), given.task)
    if not (known.all() and np.isfinite(share).all()):
        return "answers or labels are missing or infinite, or all labels are equal"
    return share


def _disturbed(given: CheckInput, rows: pa.Table, by: str, *, seed: int = SEED) -> pa.Table:
    """The rows with every input disturbed that can be; the rows themselves where none can."""
    for number, name in enumerate(given.inputs):
        change = DISTURBANCES[by](given, name, np.random.default_rng([seed, number]))
        if change is not None:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, change(plain(rows[name])))
    return rows


def _losses(
    given: CheckInput, rows: pa.Table, before: Floats, model: _Answer, measure: str | None
) -> tuple[list[Loss], Loss | None] | str:
    """What the disturbances asked for cost, and the worst of small ones; or how the model failed."""
    disturbed = {by: _disturbed(given, rows, by) for by in DISTURBANCES if measure in (None, by)}
    after = {
        by: _answered(model, given, one, rows[given.label])
        for by, one in disturbed.items()
        if one is not rows
    }
    of_worst = _worst_of_draws(given, rows, before, model) if measure in (None, _WORST) else None
    if raised := [f"With {_SAYS[by]}, {one}." for by, one in after.items() if isinstance(one, str)]:
        return " ".join(raised)
    if isinstance(of_worst, str):
        return of_worst
    if measure == _WORST:
        return ([] if of_worst is None else [of_worst]), of_worst
    return [
        _loss(given, rows, by, before - one) for by, one in after.items() if not isinstance(one, str)
    ], of_worst


def _worst_of_draws(given: CheckInput, rows: pa.Table, before: Floats, model: _Answer) -> Loss | str | None:
    """What each row loses by the worst of several small disturbances; None where no input takes one.

    A search at random, not an attack with knowledge of the model: what it finds is there, and there may be worse.
    """
    lost = np.zeros_like(before)
    for seed in range(SEED + 1, SEED + 1 + _DRAWS):
        small = _disturbed(given, _disturbed(given, rows, "typos", seed=seed), "noise", seed=seed)
        if small is rows:
            return None
        after = _answered(model, given, small, rows[given.label])
        if isinstance(after, str):
            return f"With {_SAYS[_WORST]}, {after}."
        lost = np.maximum(lost, before - after)
    return _loss(given, rows, _WORST, lost)


def _loss(given: CheckInput, rows: pa.Table, by: str, lost: Floats) -> Loss:
    clusters = groups_of(given, rows)
    values, counts = (
        np.unique(lost, return_counts=True) if clusters is None else (lost, np.ones(len(lost), np.int64))
    )
    estimate = bootstrap(
        lambda weights: (weights @ values) / weights.sum(axis=1),
        rows=counts.astype(np.int64),
        groups=clusters,
    )
    return Loss(by, estimate, lost)


def _numbers(losses: Sequence[Loss], worst: Loss) -> dict[str, float | int | None]:
    low, high = worst.estimate.interval or (None, None)
    own = {f"lost_by_{one.by}": one.estimate.value for one in losses}
    return {**own, "value": worst.estimate.value, "low": low, "high": high}


def _row(one: Loss) -> dict[str, Any]:
    low, high = one.estimate.interval or (one.estimate.value, one.estimate.value)
    return {"by": one.by, "lost": round(one.estimate.value, 4), "low": round(low, 4), "high": round(high, 4)}


def _point(one: Loss, rows: int, *, is_marked: bool) -> Point:
    low, high = one.estimate.interval or (None, None)
    return Point(_SAYS[one.by], one.estimate.value, low, high, rows=rows, is_marked=is_marked)


def _found(quality: float, rows: int, losses: Sequence[Loss], worst: Loss) -> str:
    told = ", ".join(f"{one.estimate.value:.4f} with {_SAYS[one.by]}" for one in losses)
    interval = worst.estimate.interval
    shown = f" (95 %: {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    return f"Of a quality of {quality:.4f} on {rows} rows is lost: {told}. The worst is {_SAYS[worst.by]}{shown}."


def _told_of(of_worst: Loss | None, worst: Loss) -> str:
    if of_worst is None or of_worst is worst:
        return ""
    return f" By {_SAYS[_WORST]} {of_worst.estimate.value:.4f} is lost."


def _most_lost(rows: pa.Table, worst: Loss) -> tuple[int, ...]:
    order = np.argsort(-worst.lost, kind="stable")
    return row_ids(rows, order[: int((worst.lost > 0).sum())])


def _rule(measure: str | None, at_most: float, confidence: float | None) -> str:
    by = f"by {_SAYS[measure]}" if measure else "by any of the disturbances"
    certainly = "" if confidence is None else f" with {confidence:.0%} confidence"
    return f"The model may lose at most {at_most:g} of its quality {by}{certainly}."


_Change = Callable[[Column], Column]
_Disturb = Callable[[CheckInput, str, np.random.Generator], _Change | None]


def _typos(given: CheckInput, name: str, random: np.random.Generator) -> _Change | None:
    return (
        (lambda column: _each(column, lambda text: _misspelt(text, random)))
        if _is_free(given, name)
        else None
    )


def _case(given: CheckInput, name: str, random: np.random.Generator) -> _Change | None:
    def changed(text: str) -> str:
        return text.lower() if text == text.upper() else text.upper()

    return (lambda column: _each(column, changed)) if _is_free(given, name) else None


def _missing(given: CheckInput, name: str, random: np.random.Generator) -> _Change | None:
    fields = {one.name: one.nullable for one in given.signature.inputs} if given.signature else {}
    takes_null = fields.get(
        name, given.train[name].null_count > 0 if name in given.train.column_names else False
    )
    if not takes_null and not _is_free(given, name):
        return None

    def emptied(column: Column) -> Column:
        is_gone = pa.array(random.random(len(column)) < _SHARE)
        found: Column = compute.if_else(is_gone, pa.scalar(None if takes_null else "", column.type), column)
        return found

    return emptied


def _noise(given: CheckInput, name: str, random: np.random.Generator) -> _Change | None:
    kind = plain(given.test[name]).type
    is_code = name in (given.key, given.group)
    if is_code or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None

    def moved(column: Column) -> Column:
        values = floats(column)
        known = values[np.isfinite(values)]
        moved = values + random.normal(0, _NOISE * known.std() if len(known) else 0.0, len(values))
        if pa.types.is_integer(kind):
            limits: Any = np.iinfo(kind.to_pandas_dtype())
            moved = np.clip(np.round(moved), limits.min, limits.max)
        noisy: Column = pa.chunked_array([pa.array(moved, mask=np.isnan(values)).cast(kind, safe=False)])
        return noisy

    return moved


def _photo(by: str) -> _Disturb:
    def disturb(given: CheckInput, name: str, random: np.random.Generator) -> _Change | None:
        if not _is_photo(given, name):
            return None
        return lambda column: pa.chunked_array([pa.array(photos.disturbed(column, by, random), column.type)])

    return disturb


DISTURBANCES: Mapping[str, _Disturb] = {
    "typos": _typos,
    "case": _case,
    "missing": _missing,
    "noise": _noise,
    **{by: _photo(by) for by in photos.CHANGES},
}
_SAYS = {
    _WORST: f"the worst of {_DRAWS} small disturbances of each row",
    "typos": "typos",
    "case": "changed case",
    "missing": "missing fields",
    "noise": "noise in numbers",
    "brightness": "another brightness of photos",
    "contrast": "another contrast of photos",
    "blur": "blurred photos",
    "rotation": "photos turned a little",
    "jpeg": "photos packed tightly",
    "crop": "photos cut off at the edges",
}


def _is_photo(given: CheckInput, name: str) -> bool:
    """Whether an input holds images, by its first one."""
    if kind_of(given.test.schema.field(name).type) != "binary":
        return False
    first = given.test[name].drop_null().slice(0, 1).to_pylist()
    return bool(first) and photos.is_photo(first[0])


def _is_free(given: CheckInput, name: str) -> bool:
    """Whether an input is free text, which people write, and not a code or a category."""
    return kind_of(given.test.schema.field(name).type) == "text" and bool(content_columns(given.test, [name]))


def _each(column: Column, change: Callable[[str], str]) -> Column:
    texts = [None if one is None else change(str(one)) for one in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, column.type)])


def _misspelt(text: str, random: np.random.Generator) -> str:
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= _LONG]
    if not long:
        return text
    chosen = [place for place in long if random.random() < _SHARE] or [long[int(random.integers(len(long)))]]
    for place in chosen:
        words[place] = _slip(words[place], random)
    return " ".join(words)


def _slip(word: str, random: np.random.Generator) -> str:
    """Two letters swapped, one left out or one doubled; the first letter stays, as it mostly does when people type."""
    at = int(random.integers(1, len(word) - 1))
    how = int(random.integers(3))
    if how == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :] if how == 1 else word[:at] + word[at] + word[at:]
